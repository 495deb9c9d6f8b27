"""What pages and pictures share: HTML, harmless text, the style of figures."""
