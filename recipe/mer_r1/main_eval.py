"""Evaluation from the command line: `python -m recipe.mer_r1.main_eval SUBCOMMAND …`, one module a subcommand."""

from __future__ import annotations

import sys
from importlib import import_module

# Imported only when asked for: scoring files must not wait for torch.
SUBCOMMANDS = {
    "cases": (
        "recipe.mer_r1.eval.cases.command",
        "clips that show what one model does and another does not, as a page",
    ),
    "confidence": (
        "recipe.mer_r1.eval.confidence_command",
        "how sure a model is of each category where its answers begin",
    ),
    "demo": ("recipe.mer_r1.eval.demo_page.command", "a page: a clip in, both answers and their confidence out"),
    "judge": (
        "recipe.mer_r1.eval.judge.command",
        "MME-Emotion: steps and labels of answers rated by a language model",
    ),
    "report": ("recipe.mer_r1.eval.report", "results of several runs in the paper's tables, and a picture"),
    "run": ("recipe.mer_r1.eval.run", "slow and fast answers of a model to the clips of shards, scored"),
    "score": ("recipe.mer_r1.eval.score", "score predictions against labels: EW, HIT or WAF"),
    "sentiment": ("recipe.mer_r1.eval.sentiment_command", "sentiment of the answers' words, for WAF"),
}


def main(arguments: list[str]) -> None:
    """Hand the arguments to the subcommand's `app`. Exits with 2 where there is no such subcommand."""
    name, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if name in SUBCOMMANDS:
        import_module(SUBCOMMANDS[name][0]).app(rest, prog_name=f"main_eval {name}")
        return
    usage = ["usage: python -m recipe.mer_r1.main_eval SUBCOMMAND …  (SUBCOMMAND --help tells more)", ""]
    usage += [f"  {known:10} {text}" for known, (_, text) in SUBCOMMANDS.items()]
    if name in ("-h", "--help"):
        print("\n".join(usage))
        return
    problem = f"unknown subcommand {name!r}" if name else "no subcommand given"
    sys.exit(_complain(f"{problem}\n" + "\n".join(usage)))


def _complain(text: str) -> int:
    print(text, file=sys.stderr)
    return 2


if __name__ == "__main__":
    main(sys.argv[1:])
