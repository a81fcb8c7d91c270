"""Curation as a whole: the same bytes however it is cut and run, ranked, counted, restartable, and clear about mistakes."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ground.errors import UserError
from pipelines.config import CurationConfig, SourceConfig
from pipelines.curate import Curation
from pipelines.executor import Item, LocalExecutor, Result
from pipelines.prepare import is_held_out
from pipelines.store import MARKER, TokenStore
from pipelines.tokenizer import load_tokenizer
from pipelines.work import Work, run_item

GOOD = [
    *("fever", "cough", "pain", "swelling", "infection", "treatment", "dose"),
    *("patient", "chronic", "tissue", "lung", "blood", "heart", "acute", "care"),
]
ODD = [
    *("coupon", "basket", "login", "cookie", "banner", "scroll", "click"),
    *("menu", "widget", "footer", "header", "promo", "cart", "deal", "shop"),
]

CONFIG = CurationConfig.model_validate(
    {"train_tokenizer": {"vocabulary": 400}, "heldout_fraction": 0.1, "shard_bytes": 8192, "excluded_share": 1.0}
)


def sentence(rng: random.Random, words: list[str]) -> str:
    return "The " + " ".join(rng.choices(words, k=12)) + "."


def write_corpora(folder: Path) -> dict[str, dict[str, Any]]:
    """Domain documents of falling purity in two files with copies, a general and a reference source, some to be dropped."""
    rng = random.Random(3)
    folder.mkdir(parents=True)
    domain = []
    for i in range(600):
        words = GOOD if i % 3 else GOOD + ODD * (1 + i % 5)
        domain.append({"id": f"d{i}", "text": " ".join(sentence(rng, words) for _ in range(3 + i % 9))})
    long = " ".join(sentence(rng, GOOD) for _ in range(30))
    domain += [
        {"id": "short", "text": "too short"},
        {"id": "none", "text": None},
        {"id": "digits", "text": "0123456789 " * 20},
        {"id": "copy", "text": domain[7]["text"].replace(" ", "  ")},
        {"id": "long", "text": long},
        {"id": "near", "text": long.replace("fever", "cough", 1)},
    ]
    with gzip.open(folder / "med-a.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(d) + "\n" for d in domain[:250])
    (folder / "med-b.jsonl").write_text("".join(json.dumps(d) + "\n" for d in domain[250:]) + "{broken\n")
    general = [{"id": f"g{i}", "text": " ".join(sentence(rng, ODD) for _ in range(5))} for i in range(200)]
    (folder / "web.jsonl").write_text("".join(json.dumps(d) + "\n" for d in general))
    reference = [{"id": f"r{i}", "text": " ".join(sentence(rng, GOOD) for _ in range(6))} for i in range(80)]
    (folder / "ref.jsonl").write_text("".join(json.dumps(d) + "\n" for d in reference))
    return {
        "med": {"role": "domain", "paths": [str(folder / "med-a.jsonl.gz"), str(folder / "med-b.jsonl")]},
        "web": {"role": "general", "paths": [str(folder / "web.jsonl")]},
        "ref": {"role": "reference", "paths": [str(folder / "ref.jsonl")]},
    }


def curate_here(
    folder: Path, sources: dict[str, Any], config: CurationConfig = CONFIG, *, split_bytes: int = 1 << 25
) -> TokenStore:
    """Curate in this process: store and work folder below ``folder``."""
    parsed = {name: SourceConfig.model_validate(value) for name, value in sources.items()}
    work = Work(folder / "work", LocalExecutor(), lambda *_: None)
    return Curation(folder / "store", parsed, config, None, work, split_bytes).run()


SCRIPT = textwrap.dedent("""
    import json, sys
    from pathlib import Path
    from cluster.session import session
    from pipelines.config import CurationConfig, SourceConfig
    from pipelines.curate import Curation
    from pipelines.ray_executor import RayExecutor
    from pipelines.work import Work
    folder, sources, config, cpus, split_bytes = sys.argv[1:]
    with session(cpus=int(cpus) + 2):
        parsed = {name: SourceConfig.model_validate(value) for name, value in json.loads(sources).items()}
        work = Work(Path(folder) / "work", RayExecutor(int(cpus)), lambda stage, text: print(stage, flush=True))
        config = CurationConfig.model_validate_json(config)
        Curation(Path(folder) / "store", parsed, config, None, work, int(split_bytes)).run()
""")


def start_with_ray(folder: Path, sources: dict[str, Any], *, cpus: int, split_bytes: int) -> subprocess.Popen[str]:
    """Curate under a Ray of its own, in a process group of its own."""
    arguments = [str(folder), json.dumps(sources), CONFIG.model_dump_json(), str(cpus), str(split_bytes)]
    command = [sys.executable, "-c", SCRIPT, *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=Path.cwd()
    )


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_corpora(tmp_path_factory.mktemp("corpora") / "files")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, sources: dict[str, Any]) -> Path:
    """A folder with a store made in one piece, in this process."""
    folder = tmp_path_factory.mktemp("made")
    curate_here(folder, sources)
    return folder


def same_files(one: Path, two: Path) -> None:
    names = sorted(str(path.relative_to(one)) for path in one.rglob("*") if path.is_file())
    assert names == sorted(str(path.relative_to(two)) for path in two.rglob("*") if path.is_file())
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


@pytest.mark.parametrize("split_bytes", [pytest.param(1500, marks=pytest.mark.slow), 20_000])
def test_the_store_is_the_same_bytes_for_any_split(
    made: Path, sources: dict[str, Any], tmp_path: Path, split_bytes: int
) -> None:
    curate_here(tmp_path, sources, split_bytes=split_bytes)
    same_files(made / "store", tmp_path / "store")


def test_the_order_of_files_and_their_folder_do_not_matter(made: Path, sources: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(Path(sources["web"]["paths"][0]).parent, tmp_path / "moved")
    moved = {
        name: value | {"paths": [str(tmp_path / "moved" / Path(path).name) for path in reversed(value["paths"])]}
        for name, value in sources.items()
    }
    curate_here(tmp_path / "new", moved)
    same_files(made / "store", tmp_path / "new" / "store")


def test_documents_are_ranked_and_whole(made: Path) -> None:
    store = TokenStore.open(made / "store", verify=True)
    documents = store.documents("med")
    assert len(store.manifest.sources["med"].train.shards) > 2
    assert (np.diff(documents["score"]) >= 0).all()
    keys = list(zip(documents["score"], documents["hash"], strict=True))
    assert keys == sorted(keys)
    # Every third document is watered down with web words: the best half must be nearly free of them.
    watered = np.array([identity[1:].isdigit() and int(identity[1:]) % 3 == 0 for identity in documents["id"]])
    half = len(watered) // 2
    assert watered[:half].mean() < 0.05 < watered[half:].mean()
    # The tokens between two starts are the document's text and its end.
    loaded = load_tokenizer(str(store.tokenizer_path))
    stream = store.window("med", 0, store.manifest.sources["med"].train.tokens)
    for index in (0, 7, half, len(watered) - 1):
        start, length = documents["start"][index], documents["tokens"][index]
        piece = stream[start : start + length]
        assert piece[-1] == store.manifest.end_of_document
        assert len(loaded.tokenizer.decode(piece[:-1].tolist()).encode()) == documents["bytes"][index]


def test_held_out_documents_are_chosen_by_their_hash_alone(made: Path) -> None:
    store = TokenStore.open(made / "store")
    for source in ("med", "web"):
        for split, expected in (("train", False), ("heldout", True)):
            hashes = store.documents(source, split)["hash"]  # type: ignore[arg-type]
            assert len(hashes) and all(is_held_out(value, CONFIG.heldout_fraction) is expected for value in hashes)


def test_the_same_documents_are_held_out_whatever_the_filters_repair(
    made: Path, sources: dict[str, Any], tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"preset": "none", "dedup": None})
    other = curate_here(tmp_path, sources, config)
    before = set(TokenStore.open(made / "store").documents("web", "heldout")["hash"])
    assert before == set(other.documents("web", "heldout")["hash"])


def test_the_funnel_counts_every_document(made: Path) -> None:
    funnel = TokenStore.open(made / "store").manifest.funnel
    med = funnel["med"]
    reasons = {reason: count["documents"] for reason, count in med["dropped"].items()}
    copies = sum(reasons.pop(name, 0) for name in ("duplicate", "near_duplicate", "near_heldout"))
    assert reasons == {"too_short": 1, "few_letters": 1, "missing_text": 1, "malformed_json": 1}
    assert copies == 2
    assert med["read"]["documents"] == 607 == med["kept"]["documents"] + med["heldout"]["documents"] + 4 + 2
    assert [(stage["stage"], stage["documents"]) for stage in med["stages"]] == [
        ("read", 605),
        ("filters", 603),
        ("decontamination", 603),
        ("duplicates", 601),
    ]
    assert med["stages"][-1]["tokens"] == med["kept"]["tokens"] + med["heldout"]["tokens"]
    assert sum(documents for documents, _ in med["scores"]["bins"].values()) == med["kept"]["documents"]
    assert med["examples"]["too_short"] == [["short", "too short"]]
    assert {pair["dropped"] for pair in med["pairs"]} <= {"copy", "d7", "long", "near"}
    assert funnel["ref"]["kept"]["documents"] == 80
    assert TokenStore.open(made / "store").manifest.sources.keys() == {"med", "web"}


def test_excluded_documents_are_written_with_their_reason(made: Path) -> None:
    files = list((made / "work" / "excluded").glob("*.parquet"))
    rows = {row["id"]: row["reason"] for file in files for row in pq.read_table(file).to_pylist()}
    assert rows.pop("short") == "too_short" and rows.pop("digits") == "few_letters"
    assert sorted(rows.values()) == sorted(set(rows.values()) & {"duplicate", "near_duplicate", "near_heldout"})


def test_a_second_curation_makes_only_what_is_missing(made: Path, sources: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "again")
    stages: list[str] = []
    parsed = {name: SourceConfig.model_validate(value) for name, value in sources.items()}
    work = Work(tmp_path / "again" / "work", LocalExecutor(), lambda stage, _: stages.append(stage))
    store = tmp_path / "again" / "store"
    before = (store / MARKER).stat().st_mtime_ns
    Curation(store, parsed, CONFIG, None, work).run()
    assert stages == ["curate"] and (store / MARKER).stat().st_mtime_ns == before
    stages.clear()
    shutil.rmtree(store)
    Curation(store, parsed, CONFIG, None, work).run()
    assert "prepare" not in stages and "tokens" not in stages
    same_files(made / "store", store)
    stages.clear()
    ranked = CONFIG.model_copy(update={"quality": CONFIG.quality.model_copy(update={"order": 2})})
    Curation(tmp_path / "other", parsed, ranked, None, work).run()
    assert "prepare" not in stages and "tokens" in stages  # other scores, the same clean documents


def test_empty_files_among_good_ones_change_nothing(made: Path, sources: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a-empty.jsonl").write_text("")
    (tmp_path / "z-empty.jsonl").write_text("\n\n")
    more = [str(tmp_path / "a-empty.jsonl"), *sources["web"]["paths"], str(tmp_path / "z-empty.jsonl")]
    store = curate_here(tmp_path, sources | {"web": sources["web"] | {"paths": more}})
    before = TokenStore.open(made / "store").manifest
    assert store.manifest.sources == before.sources and store.manifest.funnel == before.funnel
    with pytest.raises(UserError, match=r"sources\.web: has no document left: its files are empty"):
        curate_here(tmp_path / "none", sources | {"web": sources["web"] | {"paths": [more[0]]}})


def test_a_store_of_something_else_is_not_overwritten(made: Path, sources: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"curation\.store: .* made from something else \(differs in: config"):
        curate_here(made, sources, CONFIG.model_copy(update={"heldout_fraction": 0.2}))


def test_conversations_get_a_target_mask_and_metadata_stays(sources: dict[str, Any], tmp_path: Path) -> None:
    rng = random.Random(5)
    chats = [
        {
            "id": f"c{i}",
            "level": i % 3,
            "messages": [
                {"role": "user", "content": sentence(rng, GOOD)},
                {"role": "assistant", "content": sentence(rng, GOOD)},
            ],
        }
        for i in range(40)
    ]
    chats.append({"id": "system", "level": 0, "messages": [{"role": "user", "content": sentence(rng, ODD)}]})
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    chat = {
        "role": "domain",
        "paths": [str(tmp_path / "chat.jsonl")],
        "messages_field": "messages",
        "metadata_fields": ["level"],
    }
    store = curate_here(tmp_path, {"chat": chat, "ref": sources["ref"]}, split_bytes=3000)
    loaded = load_tokenizer(str(store.tokenizer_path))
    documents = store.documents("chat")
    assert set(documents["metadata"]) <= {'{"level":0}', '{"level":1}', '{"level":2}'}
    size = store.stream("chat").tokens
    stream, targets = store.window("chat", 0, size), store.targets("chat", np.array([0]), size)[0]
    by_id = {chat["id"]: chat["messages"] for chat in chats}
    for start, length, identity in zip(documents["start"], documents["tokens"], documents["id"], strict=True):
        answer = [message["content"] for message in by_id[identity] if message["role"] == "assistant"]
        mine = stream[start : start + length][targets[start : start + length]].tolist()
        text = loaded.tokenizer.decode([token for token in mine if token != loaded.eos_id])
        assert text.split() == " ".join(answer).split()


class FailingExecutor(LocalExecutor):
    """Fails before the so-manieth item, as a kill would."""

    def __init__(self, after: int) -> None:
        self.left = after

    def map(self, function: Any, items: Any) -> Any:
        """As ``LocalExecutor.map``, until it is time."""
        for index, item in enumerate(items):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            yield index, function(item)


def test_an_interruption_anywhere_leaves_nothing_half_valid(
    made: Path, sources: dict[str, Any], tmp_path: Path
) -> None:
    parsed = {name: SourceConfig.model_validate(value) for name, value in sources.items()}
    interrupted = 0
    for after in range(0, 60, 3):
        work = Work(tmp_path / "work", FailingExecutor(after % 5), lambda *_: None)
        try:
            Curation(tmp_path / "store", parsed, CONFIG, None, work, 20_000).run()
        except KeyboardInterrupt:
            interrupted += 1
            with pytest.raises(UserError, match="half-written"):
                TokenStore.open(tmp_path / "store")
            continue
        break
    assert interrupted > 1
    curate_here(tmp_path, sources, split_bytes=20_000)
    same_files(made / "store", tmp_path / "store")


def test_two_workers_that_make_the_same_item_agree(tmp_path: Path) -> None:
    """Ray may start an item again while the lost worker's first attempt still runs."""
    task = {"function": f"{__name__}:slow_item", "folder": str(tmp_path / "stage" / "key"), "item": {"value": 1}}
    run_item(task)
    run_item(task)
    assert (tmp_path / "stage" / "key" / "result.json").is_file()
    assert not list((tmp_path / "stage").glob(".*"))


def slow_item(item: Item, folder: Path) -> Result:
    """Writes its value; in between another worker has finished the same item."""
    twin = folder.parent / "key"
    if not twin.exists():
        shutil.copytree(folder, twin)
        (twin / "result.json").write_text("{}")
    return {"value": item["value"]}


@pytest.mark.slow
def test_ray_makes_the_same_bytes_on_one_and_two_cpus(made: Path, sources: dict[str, Any], tmp_path: Path) -> None:
    for cpus, split_bytes in ((1, 1 << 25), (2, 3000)):
        process = start_with_ray(tmp_path / str(cpus), sources, cpus=cpus, split_bytes=split_bytes)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-3000:]
        same_files(made / "store", tmp_path / str(cpus) / "store")


@pytest.mark.slow
def test_a_curation_killed_again_and_again_ends_with_the_same_bytes(
    made: Path, sources: dict[str, Any], tmp_path: Path
) -> None:
    """SIGKILL of the driver and every Ray process while stages run; each start goes on where the last one was."""
    rng = random.Random(11)
    for _ in range(3):
        process = start_with_ray(tmp_path, sources, cpus=2, split_bytes=3000)
        assert process.stdout is not None
        process.stdout.readline()  # the first stage is through
        time.sleep(rng.uniform(0, 1.5))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if (tmp_path / "store").exists() and not (tmp_path / "store" / MARKER).exists():
            with pytest.raises(UserError, match="half-written"):
                TokenStore.open(tmp_path / "store")
    process = start_with_ray(tmp_path, sources, cpus=2, split_bytes=3000)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    same_files(made / "store", tmp_path / "store")
