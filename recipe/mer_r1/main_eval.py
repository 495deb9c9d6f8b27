"""Evaluation from the command line: `python -m recipe.mer_r1.main_eval SUBCOMMAND …`, one module a subcommand."""

from __future__ import annotations

import sys
from importlib import import_module

from recipe.mer_r1.files import exits
from recipe.mer_r1.files.home import expand_home

# Imported only when asked for: scoring files must not wait for torch.
SUBCOMMANDS = {
    "cases": (
        "recipe.mer_r1.eval.cases.command",
        "a page with clips on which two models differ",
    ),
    "compare": (
        "recipe.mer_r1.eval.compare.command",
        "paired differences of two evaluations, with a verdict in words",
    ),
    "confidence": (
        "recipe.mer_r1.eval.confidence_command",
        "a model's confidence in each category at the start of its answers",
    ),
    "demo": (
        "recipe.mer_r1.eval.demo_page.command",
        "a web page: for a clip, the slow and fast answers and their confidence",
    ),
    "judge": (
        "recipe.mer_r1.eval.judge.command",
        "MME-Emotion: a language model rates the steps and labels of answers",
    ),
    "predict": ("recipe.mer_r1.eval.predict", "answer clips without labels, in parts, and write a submission"),
    "report": ("recipe.mer_r1.eval.report", "results of several runs in the paper's tables, and a figure"),
    "run": ("recipe.mer_r1.eval.run", "let a model answer the clips of shards, slow and fast, and score the answers"),
    "score": ("recipe.mer_r1.eval.score", "score predictions against labels: EW, HIT or WAF"),
    "sentiment": ("recipe.mer_r1.eval.sentiment_command", "map the words of the answers to sentiment, for WAF"),
}


def main(arguments: list[str]) -> None:
    """Hand the arguments to the subcommand's `app`. Exits with 2 where there is no such subcommand."""
    name, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if name in SUBCOMMANDS:
        with exits.plain(f"main_eval {name}"):
            import_module(SUBCOMMANDS[name][0]).app(rest, prog_name=f"main_eval {name}")
        return
    usage = ["usage: python -m recipe.mer_r1.main_eval SUBCOMMAND …  (SUBCOMMAND --help shows its options)", ""]
    usage += [f"  {known:10} {text}" for known, (_, text) in SUBCOMMANDS.items()]
    if name in ("-h", "--help"):
        print("\n".join(usage))
        return
    problem = f"unknown subcommand {name!r}" if name else "no subcommand given"
    sys.exit(_complain(f"{problem}\n" + "\n".join(usage)))


def _complain(text: str) -> int:
    print(text, file=sys.stderr)
    return exits.INPUT


if __name__ == "__main__":
    main([expand_home(argument) for argument in sys.argv[1:]])
