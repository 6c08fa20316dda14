"""Steps that build on one another: skipped, run again, gone on with, chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from unidet.errors import RunFailedError, UserError
from unidet.runs.record import checksum, digest_of, read_record
from unidet.runs.steps import Step, behind, choose, plan, run_steps


class Kitchen:
    """Four steps that write what they have read: a to b, b and c to d."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.source = root / "source.txt"
        self.source.write_text("flour")
        self.settings = dict.fromkeys("abcd", 0)
        self.fails: dict[str, BaseException] = {}
        self.resumed: dict[str, bool] = {}

    def steps(self) -> list[Step]:
        needs = {"a": "", "b": "a", "c": "a", "d": "bc"}
        return [
            Step(
                name=name,
                needs=tuple(needs[name]),
                settings={"n": self.settings[name]},
                files=(self.source,) if name == "a" else (),
                outputs=(self.root / "out" / name,),
                work=lambda resume, name=name: self.cook(name, resume),
                note=f"cook {name}",
            )
            for name in "abcd"
        ]

    def cook(self, name: str, resume: bool) -> None:
        self.resumed[name] = resume
        if name in self.fails:
            raise self.fails[name]
        path = self.root / "out" / name
        path.mkdir(parents=True, exist_ok=True)
        (path / "dish.txt").write_text(f"{name} {self.settings[name]}")

    def run(self, **options: object) -> str:
        """Names of the steps that ran."""
        steps = self.steps()
        only, start = options.pop("only", ()), options.pop("start", None)
        chosen = choose(steps, only, start)  # type: ignore[arg-type]
        record = read_record(self.root)
        return "".join(run_steps(steps, chosen, record, say=lambda line: None, **options))  # type: ignore[arg-type]


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    return Kitchen(tmp_path)


def test_what_is_done_is_skipped(kitchen: Kitchen) -> None:
    assert kitchen.run() == "abcd"
    assert kitchen.run() == ""
    assert not any(kitchen.resumed.values())


def test_changes_run_a_step_and_all_behind_it(kitchen: Kitchen) -> None:
    kitchen.run()
    kitchen.settings["b"] = 1
    assert kitchen.run() == "bd"
    kitchen.source.write_text("rye")
    assert kitchen.run() == "abcd"


@pytest.mark.parametrize("damage", ["changed", "missing", "more"])
def test_a_damaged_output_is_made_again(kitchen: Kitchen, damage: str) -> None:
    kitchen.run()
    dish = kitchen.root / "out" / "c" / "dish.txt"
    if damage == "changed":
        dish.write_text("burnt")
    elif damage == "missing":
        dish.unlink()
    else:
        dish.with_name("fly").write_text("")
    assert kitchen.run() == "cd"
    assert dish.read_text() == "c 0"


def test_an_interrupted_step_may_go_on(kitchen: Kitchen) -> None:
    kitchen.run()
    kitchen.settings["b"] = 1
    kitchen.fails["b"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        kitchen.run()
    del kitchen.fails["b"]
    # What builds on it is not taken for done, although its files are there.
    steps = kitchen.steps()
    reasons = {step.name: reason for step, reason in plan(steps, steps, read_record(kitchen.root))}
    assert reasons == {"a": "", "b": "interrupted", "c": "", "d": "b runs"}
    assert kitchen.run() == "bd"
    assert kitchen.resumed["b"] and not kitchen.resumed["d"]


def test_an_interrupted_step_with_other_settings_starts_anew(kitchen: Kitchen) -> None:
    kitchen.fails["a"] = RunFailedError("disk full")
    with pytest.raises(RunFailedError):
        kitchen.run()
    del kitchen.fails["a"]
    kitchen.settings["a"] = 1
    assert kitchen.run() == "abcd"
    assert not kitchen.resumed["a"]


def test_an_interrupted_step_starts_anew_where_asked(kitchen: Kitchen) -> None:
    kitchen.fails["a"] = RunFailedError("disk full")
    with pytest.raises(RunFailedError):
        kitchen.run()
    del kitchen.fails["a"]
    kitchen.run(overwrite=True)
    assert not kitchen.resumed["a"]


def test_steps_by_themselves(kitchen: Kitchen) -> None:
    assert kitchen.run(only=["a"]) == "a"
    with pytest.raises(UserError, match="Missing step b"):
        kitchen.run(only=["d"])
    with pytest.raises(UserError, match="Missing step c"):
        kitchen.run(start="b")
    assert kitchen.run(only=["b"]) == "b"
    assert kitchen.run(only=["c"]) == "c"
    assert kitchen.run(start="d") == "d"
    assert kitchen.run(start="b") == ""
    assert kitchen.run(start="b", overwrite=True) == "bd"
    kitchen.source.write_text("rye")
    with pytest.raises(UserError, match=r"Missing step a .* have changed"):
        kitchen.run(only=["d"])
    kitchen.source.write_text("flour")
    # A step that ran alone leaves those behind it to be done.
    with pytest.raises(UserError, match="Missing step b"):
        kitchen.run(only=["a", "d"], overwrite=True)
    assert kitchen.run() == "bcd"


def test_files_of_others_are_kept(kitchen: Kitchen) -> None:
    kitchen.cook("c", False)
    with pytest.raises(UserError, match=r"File exists: .*c, which no recipe"):
        kitchen.run()
    assert not (kitchen.root / "steps.json").exists()
    assert kitchen.run(overwrite=True) == "abcd"
    # One's own are replaced without a question.
    kitchen.settings["a"] = 1
    kitchen.fails["b"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        kitchen.run()
    del kitchen.fails["b"]
    assert kitchen.run() == "bcd"


def test_a_plan_writes_nothing(kitchen: Kitchen) -> None:
    steps = kitchen.steps()
    reasons = [reason for _, reason in plan(steps, steps, read_record(kitchen.root))]
    assert reasons == ["not done yet", "a runs", "a runs", "b runs"]
    assert [path.name for path in kitchen.root.iterdir()] == ["source.txt"]


def test_a_step_has_to_leave_its_outputs(kitchen: Kitchen) -> None:
    kitchen.cook = lambda name, resume: None  # type: ignore[method-assign]
    with pytest.raises(RunFailedError, match="Step a left no"):
        kitchen.run()


def test_names_of_steps_are_checked(kitchen: Kitchen) -> None:
    assert behind(kitchen.steps(), "a") == ["b", "c", "d"]
    for only, start, message in (
        (["e"], None, "--only"),
        ([], "e", "--from"),
        (["a"], "b", "both"),
    ):
        with pytest.raises(UserError, match=message):
            choose(kitchen.steps(), only, start)


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}'])
def test_a_record_that_cannot_be_read_is_told(kitchen: Kitchen, text: str) -> None:
    (kitchen.root / "steps.json").write_text(text)
    with pytest.raises(UserError, match=r"steps\.json"):
        kitchen.run()


def test_checksums_tell_names_and_contents_apart(tmp_path: Path) -> None:
    def folder(name: str, **files: str) -> Path:
        place = tmp_path / name
        place.mkdir()
        for key, text in files.items():
            (place / key).write_text(text)
        return place

    sums = {
        checksum(folder("one", a="x", b="y")),
        checksum(folder("two", a="y", b="x")),
        checksum(folder("three", a="x")),
        checksum(tmp_path / "one" / "a"),
        checksum(tmp_path / "none"),
    }
    assert len(sums) == 5 and None in sums
    assert checksum(folder("again", a="x", b="y")) in sums
    files = [tmp_path / "one" / "a"]
    assert digest_of({"n": 1}, files) != digest_of({"n": 2}, files)
    assert digest_of({"n": 1}, files) != digest_of({"n": 1}, [tmp_path / "one" / "b"])
