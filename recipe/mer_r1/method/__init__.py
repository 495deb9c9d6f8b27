"""The paper without verl: each file is one concept and names its equations."""
