"""Packaging. The pins that reproduce an environment are in requirements/; here stand the ranges and the seams."""

from setuptools import find_packages, setup

setup(
    name="mer-r1",
    version="0.1.0",
    description="MER-R1 on verl: multimodal emotion reasoning by slow-fast thinking synergy",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    # "" -> ".": a plain path entry for editable installs, so that our regular package `recipe` is found before
    # the stray namespace package of that name in TransferQueue's wheel.
    package_dir={"": "."},
    packages=find_packages(include=["recipe", "recipe.*", "verl_ext", "verl_ext.*", "data_prep", "data_prep.*"]),
    entry_points={
        "verl.plugins": ["verl_ext = verl_ext.plugin"],
        "vllm.general_plugins": ["verl_ext = verl_ext.vllm_plugin:register"],
    },
)
