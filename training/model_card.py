"""The model card of an export (README.md): where its data came from, what was trained, what came of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml

from pipelines.plan import Plan
from pipelines.store import TokenStore
from tracking.curation import SourceFunnel, read_funnel
from tracking.history import History
from training.gap import gap_metrics
from training.job import Job
from training.tasks.results import Evaluation

_REASONS = 4
"""Reasons for dropping documents that are named for each source."""


@dataclass(frozen=True)
class CardFacts:
    """All that a card tells."""

    job: Job
    base: str
    """Name of the base model, without the folders above it."""
    base_licence: str | None
    """As the base's own card states it."""
    store: TokenStore
    plan: Plan
    step: int
    tokens: int
    seen: Mapping[str, int]
    """Source -> tokens seen of it up to this step, repeats counted."""
    dtype: str
    history: History = field(default_factory=dict)
    changes: Sequence[str] = ()
    """Each time that the run went on under other settings before this step, as a line to print."""
    evaluations: Sequence[Evaluation] = ()


def model_card(facts: CardFacts) -> str:
    """The card as Markdown with the front matter of the Hugging Face hub."""
    parts = (_head, _use, _results, _evaluations, _training, _data, _curation, _licence, _limits, _settings)
    return "\n".join(text for part in parts if (text := part(facts)))


def base_licence(folder: Path) -> str | None:
    """The licence that the card of a local base model states; None where there is none."""
    card = folder / "README.md"
    found = re.match(r"---\n(.*?)\n---\n", card.read_text(errors="replace"), re.DOTALL) if card.is_file() else None
    try:
        stated = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        return None
    licence = stated.get("license") if isinstance(stated, dict) else None
    return licence if isinstance(licence, str) else None


def _head(facts: CardFacts) -> str:
    job, plan = facts.job, facts.plan
    matter = {
        "license": "other",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["continued-pretraining", "steady"],
    }
    if job.base_digest is None and _is_hub_name(job.model.base):
        matter["base_model"] = str(job.model.base)
    of_all = f"after step {facts.step:,} of {plan.steps:,}" if facts.step < plan.steps else "at the end of the run"
    what = f"`{facts.base}`, trained further" if job.model.init == "pretrained" else "A model trained from nothing"
    sources = ", ".join(
        f"{_share(facts.seen[name], facts.tokens)} {name} ({facts.plan.roles[name]})" for name in _largest(facts.seen)
    )
    return (
        f"---\n{yaml.safe_dump(matter, sort_keys=False)}---\n\n# {job.name}\n\n"
        f"{what} on {facts.tokens:,} tokens ({sources}), {of_all}. "
        f"Weights in {facts.dtype}. Made with Steady {_version('steady')}.\n"
    )


def _use(_: CardFacts) -> str:
    return """## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
```
"""


def _results(facts: CardFacts) -> str:
    rows = []
    for metric in sorted(facts.history):
        if not (metric.startswith("heldout/") and metric.endswith("/loss")):
            continue
        points = [(tokens, loss) for tokens, loss in facts.history[metric] if tokens <= facts.tokens]
        if not points or points[0][0] != 0:
            continue
        name, losses = metric.split("/")[1], [loss for _, loss in points]
        gap = gap_metrics([tokens for tokens, _ in points], [-loss for loss in losses])
        back = "no gap" if gap.recovery_tokens == 0 else "not yet"
        back = f"{gap.recovery_tokens:,.0f} tokens" if gap.recovery_tokens else back
        role = facts.store.manifest.sources[name].role if name in facts.store.manifest.sources else ""
        change = losses[-1] - losses[0]
        rows.append(
            [name, role, *(f"{v:.4f}" for v in (losses[0], losses[-1])), f"{change:+.4f}", f"{gap.depth:.4f}", back]
        )
        measured = points[-1][0]
    if not rows:
        return "## Held-out loss\n\nNo measurement was kept with the run.\n"
    heads = ["source", "role", "base", "now", "change", "gap depth", "recovered after"]
    late = "" if measured == facts.tokens else f", last measured after {measured:,} tokens"
    return (
        f"## Held-out loss\n\nNats per token on documents of each source that this training never saw{late}. Gap depth: how far "
        f"the loss rose above the base on the way.\n\n{_table(heads, rows, right=range(2, 7))}"
    )


def _evaluations(facts: CardFacts) -> str:
    parts = []
    for done in facts.evaluations:
        rows = [[f"**{g.group}**", _percent(g.acc, g.acc_stderr), f"{g.tasks} tasks"] for g in done.group_scores]
        rows += [[task.task, _percent(task.acc, task.acc_stderr), f"{task.n:,}"] for task in done.tasks]
        limit = done.settings.get("limit")
        first = f", the first {limit:,} items of each task" if isinstance(limit, int) else ""
        parts.append(f"Zero-shot accuracy in %, with its standard error{first}.\n\n")
        parts.append(_table(["task", "accuracy", "items"], rows, right=(1, 2)) + "\n")
    return "## Evaluation\n\n" + "".join(parts).rstrip("\n") + "\n" if parts else ""


def _training(facts: CardFacts) -> str:
    job, plan, mixture, training = facts.job, facts.plan, facts.job.mixture, facts.job.training
    kind = "best by quality" if mixture.select == "quality" else "random"
    shares = ", ".join(f"{name} {plan.shares[name]:.2%}" for name in _largest(plan.shares))
    schedule = training.schedule.kind
    rows = [
        ["step", f"{facts.step:,} of {plan.steps:,}"],
        ["tokens", f"{facts.tokens:,} of {plan.total_tokens:,}"],
        ["one epoch", f"{plan.epoch_sequences * plan.sequence_length:,} tokens, domain part: {kind}"],
        ["epochs", f"{mixture.epochs:g}, domain part drawn: {mixture.redraw}"],
        ["shares of every batch", shares],
        ["batch", f"{training.global_batch_tokens:,} tokens in sequences of {training.sequence_length:,}"],
        ["optimiser", f"AdamW ({training.beta1:g}, {training.beta2:g}), weight decay {training.weight_decay:g}"],
        ["learning rate", f"{training.learning_rate:g} at its peak, {schedule}"],
        ["precision", "bf16 on a GPU, fp32 on a CPU" if training.precision == "auto" else training.precision],
        ["seed", f"{job.seed}"],
    ]
    changes = "".join(f"- {change}\n" for change in facts.changes)
    told = (
        f"\nThe run went on under other settings, so that the settings below do not tell all of it:\n\n{changes}"
        if changes
        else ""
    )
    return f"## Training\n\n{_table(['', ''], rows)}{told}"


def _data(facts: CardFacts) -> str:
    rows = []
    for name, source in sorted(facts.store.manifest.sources.items()):
        seen = facts.seen.get(name, 0)
        sizes = (source.train.documents, source.train.tokens, source.heldout.tokens, seen)
        rows.append([name, source.role, *(f"{size:,}" for size in sizes)])
    heads = ["source", "role", "documents", "tokens", "held-out tokens", "tokens seen in training"]
    lineage = facts.store.manifest.lineage.get("sources", {})
    files = sum(len(source.get("files", [])) for source in lineage.values())
    made = f" It was made from {files:,} input files; their digests are in its manifest." if files else ""
    return (
        f"## Data\n\nToken store `{facts.store.digest}`, tokenizer `{facts.store.manifest.tokenizer_digest}`.{made}\n\n"
        f"{_table(heads, rows, right=range(2, 6))}"
    )


def _curation(facts: CardFacts) -> str:
    rows = [_funnel_row(source) for source in read_funnel(facts.store.manifest.funnel)]
    if not rows:
        return ""
    heads = ["source", "role", "documents read", "kept", "held out", "dropped, for the most frequent reasons"]
    return f"### Curation\n\n{_table(heads, rows, right=(2, 3, 4))}"


def _funnel_row(source: SourceFunnel) -> list[str]:
    reasons = ", ".join(f"{name} {amount.documents:,}" for name, amount in source.reasons()[:_REASONS])
    dropped = f"{source.dropped_documents:,}" + (f" ({reasons})" if reasons else "")
    counts = (source.read.documents, source.kept.documents, source.heldout.documents)
    return [source.name, source.role, *(f"{count:,}" for count in counts), dropped]


def _licence(facts: CardFacts) -> str:
    stated = f", whose card states `{facts.base_licence}`" if facts.base_licence else ""
    base = f"of the base model{stated}, and " if facts.job.model.init == "pretrained" else ""
    return (
        f"## Licence\n\nNot stated by whoever trained this model, hence `other` above. It is bound by the terms {base}"
        "of the corpora. Settle these before passing the model on.\n"
    )


def _limits(facts: CardFacts) -> str:
    return (
        "## Limits\n\nThe numbers above are all that was measured. Facts, bias and safety were not tested, and this "
        f"training did not look at them. Sequences were at most {facts.job.training.sequence_length:,} tokens long.\n"
    )


def _settings(facts: CardFacts) -> str:
    identity = facts.job.identity()
    identity["model"]["base"] = facts.base if facts.job.model.base else None
    versions = ", ".join(f"{name} {_version(name)}" for name in ("torch", "deepspeed", "transformers"))
    return (
        "## Settings\n\n<details><summary>Everything that determines the run</summary>\n\n"
        f"```yaml\n{yaml.safe_dump(identity, sort_keys=False, allow_unicode=True)}```\n\n</details>\n\n"
        f"Digest of these settings: `{facts.job.digest()}`. Exported with {versions}.\n"
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    rule = ["---:" if index in right else "---" for index in range(len(heads))]
    return "".join(f"| {' | '.join(_cell(cell) for cell in row)} |\n" for row in (heads, rule, *rows))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _largest(amounts: Mapping[str, float]) -> list[str]:
    return sorted(amounts, key=lambda name: (-amounts[name], name))


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "0 %"


def _percent(value: float, error: float | None) -> str:
    return f"{100 * value:.2f}" + ("" if error is None else f" ± {100 * error:.2f}")


def _is_hub_name(base: str | None) -> bool:
    return base is not None and not Path(base).is_absolute() and base.count("/") == 1 and not Path(base).is_dir()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"
