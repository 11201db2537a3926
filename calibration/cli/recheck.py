"""`linegate recheck`: judge a golden set, compare with the revision before, and add counter-examples."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from calibration.cli.progress import shown
from calibration.counterexample import Preview, preview
from calibration.drafting import draft_change, recipes_of
from calibration.golden import Judged, Outcome, changed, judge_golden, read_golden
from calibration.recipe_writer import Draft, write_revision
from calibration.report import report_of_counterexample, report_of_recheck
from edge.engines.base import Engine
from edge.engines.onnx_cpu import OnnxCpuEngine
from edge.engines.package import load_package
from edge.errors import RecipeError, UsageError
from edge.recipe import Recipe, load_recipe
from edge.sealed import write_whole

EXIT_WORSE = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument(
        "recipe", metavar="RECIPE", type=Path, help="a revision's folder, or a product's for its newest"
    )
    parser.add_argument("--model", metavar="DIR", type=Path, required=True, help="model package")
    parser.add_argument("--golden", metavar="DIR", type=Path, help="labelled pictures in good/ and defect/")
    parser.add_argument(
        "--counterexample", metavar="FILE", type=Path, help="a defect that was missed: show what adding it does"
    )
    parser.add_argument("--commit", action="store_true", help="write the revision with the counter-example")
    parser.add_argument("--report", metavar="FILE", type=Path, help="write the comparison as a page")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the comparison as JSON")
    parser.add_argument("--threads", metavar="N", type=int, default=0, help="threads of the encoder (0: one a core)")


def run(arguments: argparse.Namespace) -> int:
    """Compare, and change the recipe only when told to; 1 if a part is judged worse than before."""
    if arguments.golden is None and arguments.counterexample is None:
        raise UsageError("there is nothing to check", "Give --golden DIR, --counterexample FILE, or both.")
    if arguments.commit and arguments.counterexample is None:
        raise UsageError("--commit has nothing to write", "Give --counterexample FILE with it.")
    if arguments.golden is None and (arguments.report is not None or arguments.json is not None):
        raise UsageError("there is nothing to compare", "Give --golden DIR with --report and --json.")
    golden = [] if arguments.golden is None else read_golden(arguments.golden)
    package = load_package(arguments.model)
    recipe = load_recipe(arguments.recipe, package.info)
    engine = OnnxCpuEngine(package, arguments.threads)
    after = recipe
    if arguments.counterexample is not None:
        with shown() as step:
            found = preview(arguments.counterexample, recipe, engine, step)
        _tell(found, arguments.counterexample)
        after = Recipe(
            recipe.folder,
            msgspec.structs.replace(found.info, revision=recipe.info.revision + 1),
            found.bank,
            recipe.view,
            "",
        )
    before = recipe if arguments.counterexample is not None else _earlier(recipe, engine)
    code = _compare(golden, [r for r in (before, after) if r is not None], engine, arguments) if golden else 0
    if arguments.commit:
        if not found.helps:
            raise UsageError(
                "the counter-example would still pass", "Nothing was written; calibrate with more shots instead."
            )
        if code == EXIT_WORSE:
            raise UsageError(
                "the golden set is judged worse than before", "Nothing was written; look at the parts above."
            )
        draft = draft_change(recipe, found.info, found.bank)
        report = partial(report_of_counterexample, recipe=recipe, found=found, path=arguments.counterexample)
        written, info = write_revision(recipes_of(recipe), Draft(draft.info, draft.files, report))
        print(f"{info.product} revision {info.revision} written to {written}")
    elif arguments.counterexample is not None:
        print("nothing was written; add --commit to write this revision")
    return code


def _earlier(recipe: Recipe, engine: Engine) -> Recipe | None:
    """The revision that this one came from, or the one numbered before it."""
    number = recipe.info.parent_revision or recipe.info.revision - 1
    folder = recipe.folder.parent / f"{number:04d}"
    if not folder.is_dir():
        return None
    try:
        return load_recipe(folder, engine.package.info)
    except RecipeError as error:
        print(f"linegate: revision {number} is not compared: {error.what}.", file=sys.stderr)
        return None


def _compare(
    golden: list[tuple[Path, bool]], recipes: list[Recipe], engine: Engine, arguments: argparse.Namespace
) -> int:
    outcomes: list[Outcome] = []
    judged: list[tuple[Judged, ...]] = []
    for recipe in recipes:
        with shown() as step:
            outcome, every = judge_golden(golden, recipe, engine, step)
        outcomes.append(outcome)
        judged.append(every)
    _print(outcomes)
    differing = changed(judged[0], judged[-1]) if len(judged) > 1 else []
    for old, new in differing:
        truth = "defective" if new.defective else "good"
        print(f"{new.path.name} ({truth}): {old.verdict.judgement.value}, now {new.verdict.judgement.value}")
    if arguments.json is not None:
        rows = [
            {"file": n.path.name, "before": o.verdict.judgement, "after": n.verdict.judgement} for o, n in differing
        ]
        write_whole(
            arguments.json, msgspec.json.format(msgspec.json.encode({"outcomes": outcomes, "changed": rows})) + b"\n"
        )
    if arguments.report is not None:
        write_whole(arguments.report, report_of_recheck(recipes[-1].info, outcomes, differing).encode())
    first, last = outcomes[0], outcomes[-1]
    worse = last.escapes > first.escapes or last.false_rejects > first.false_rejects
    return EXIT_WORSE if worse else 0


def _tell(found: Preview, path: Path) -> None:
    limit = found.info.threshold.value
    verdict = "would be rejected" if found.helps else "would still pass"
    print(
        f"{path.name}: score {found.score_before:.4g} becomes {found.score_after:.4g} (threshold {limit:.4g}); it {verdict}"
    )
    print(f"{found.normals_rejected} of {found.normals} kept normal shots would be rejected that pass now")


def _print(outcomes: list[Outcome]) -> None:
    table = Table()
    for name in ("revision", "threshold", "false rejects", "escapes", "not decidable", "AUROC"):
        table.add_column(name, justify="right")
    for o in outcomes:
        quality = "-" if o.auroc is None else f"{o.auroc:.3f}"
        rejects, escapes = f"{o.false_rejects} of {o.good}", f"{o.escapes} of {o.defect}"
        table.add_row(str(o.revision), f"{o.threshold:.4g}", rejects, escapes, str(o.undecided), quality)
    Console().print(table)
