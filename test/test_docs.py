"""The documentation is true: the site builds, tables are the code's, commands exist and run."""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.util
import io
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import CodeType
from urllib.parse import urlsplit

import pytest
import yaml
from fixtures.as_on_a_robot import as_on_a_robot

from dkt_ros.cli import build_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/*.md", "dkt_ros/assets/*/MODEL_CARD.md")
    for page in ROOT.glob(pattern)
)
CODE = {"sh", "python"}
OTHER = {"yaml", "json", "text"}
OUTSIDE = {
    *("apt-get", "cd", "colcon", "docker", "export", "fastdds", "git", "lint-imports", "mypy"),
    *("pip", "pre-commit", "ray", "ruff", "sysctl", "source", "torchrun"),
}
"""Programs of others; what stands in their words and is ours is checked all the same."""
REMAPPED = {"color/image", "depth/image", "color/camera_info", "mask"}
OF_OTHERS = {"image_topic", "point_cloud_topic"}
"""Parameters of other packages that pages set."""


@dataclass(frozen=True)
class Block:
    """A fenced block, with the comments before it."""

    page: Path
    line: int
    language: str
    marks: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@cache
def blocks_and_prose(page: Path) -> tuple[list[Block], str]:
    """Fenced blocks, and the text without them."""
    found: list[Block] = []
    prose: list[str] = []
    marks: list[str] = []
    lines = iter(enumerate(page.read_text().splitlines(), 1))
    for number, line in lines:
        if opening := re.match(r"```(.*)", line):
            inside: list[str] = []
            for _, within in lines:
                if within == "```":
                    break
                inside.append(within)
            text = "\n".join(inside) + "\n"
            found.append(Block(page, number, opening[1], tuple(marks), text))
        else:
            prose.append(line)
        comment = re.fullmatch(r"<!-- (.*) -->", line)
        marks = [*marks, comment[1]] if comment else []
    return found, "\n".join(prose)


def blocks(*languages: str) -> list[Block]:
    return [
        block
        for page in PAGES
        for block in blocks_and_prose(page)[0]
        if block.language in languages
    ]


def spans(page: Path) -> set[str]:
    """Inline code of a page's sentences and tables."""
    return {" ".join(span.split()) for span in re.findall(r"`([^`]+)`", blocks_and_prose(page)[1])}


def test_every_block_says_what_it_is_and_whether_it_is_run() -> None:
    for page in PAGES:
        for block in blocks_and_prose(page)[0]:
            assert block.language in CODE | OTHER, f"{block}: expected ```sh, ```python or ```text"
            if block.language in OTHER:
                continue
            assert block.marks, f"{block}: expected a comment before it, see CONTRIBUTING"
            for mark in block.marks:
                kind, _, rest = mark.partition(": ")
                if kind == "tested":
                    file, _, name = rest.partition("::")
                    defined = re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE)
                    assert defined, f"{block}: {file} has no test {name}"
                else:
                    assert kind == "run" or (kind == "not run" and rest), f"{block}: {mark}"


def test_results_that_are_kept_are_named_where_they_are_made_or_told() -> None:
    telling = [*PAGES, *(ROOT / "benchmarks").rglob("*.py")]
    told = "\n".join(page.read_text() for page in telling)
    for file in (ROOT / "benchmarks" / "results").iterdir():
        assert file.name in told, f"{file} is named by no page and no benchmark"


@pytest.mark.ros
@pytest.mark.parametrize("block", [b for b in blocks(*CODE) if "run" in b.marks], ids=str)
def test_a_block_that_is_marked_runs(block: Block, tmp_path: Path) -> None:
    for name in ("config", "dkt_ros", "docs", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    interpreter = {"sh": ["bash", "-euo", "pipefail"], "python": ["python"]}[block.language]
    environment = as_on_a_robot(os.environ)
    environment["PYTHONPATH"] += os.pathsep + str(ROOT)
    ended = subprocess.run(
        interpreter,
        input=block.text,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def commands(text: str) -> Iterator[list[str]]:
    """The words of each simple command of a shell script."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("&|;"):
                while words and re.match(r"\w+=", words[0]):  # variables of its environment
                    del words[0]
                if words:
                    yield words
                words = []
            else:
                words.append(word)


@pytest.mark.ros
@pytest.mark.parametrize("block", blocks("sh"), ids=str)
def test_commands_of_blocks_are_understood(block: Block) -> None:
    for words in commands(block.text):
        problem = wrong(words, whole="…" not in words)
        assert not problem, f"{block}: {shlex.join(words)}: {problem}"


@pytest.mark.ros
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_sentences_are_understood(page: Path) -> None:
    for span in spans(page):
        if re.match(r"(dkt\w*|make|python|ros2|torchrun|\w+\.launch\.py) ", span):
            problem = wrong(shlex.split(span), whole=False)
            assert not problem, f"{page.name}: `{span}`: {problem}"


def wrong(words: list[str], whole: bool) -> str | None:
    """What is wrong with a command; whole: all of its arguments are there."""
    from dkt_ros.ros.replay.node import _parser as replay_parser

    program, *rest = words
    if program == "dkt":
        return wrong_arguments(build_parser(), rest, whole)
    if program == "dkt_replay":
        return wrong_arguments(replay_parser(), rest, whole)
    if program.startswith("dkt_"):
        there = f"\n{program} = " in (ROOT / "pyproject.toml").read_text()
        return wrong_ros_arguments(rest) if there else f"no program {program}"
    if program == "make":
        return wrong_make(rest)
    if program == "python":
        return wrong_python(rest)
    if program == "ros2":
        return wrong_ros2(rest)
    if program.endswith(".launch.py"):
        return wrong_launch(words)
    if "dkt_ros.cli" in rest:
        return wrong_arguments(build_parser(), rest[rest.index("dkt_ros.cli") + 1 :], False)
    if program.startswith("scripts/") or program == "source":
        file = rest[0] if program == "source" else program
        built = file.startswith(("install/", "/opt/ros/"))
        return None if built or (ROOT / file).is_file() else f"no file {file}"
    return None if program in OUTSIDE else f"{program} is not known: name it in OUTSIDE"


def wrong_arguments(parser: argparse.ArgumentParser, words: list[str], whole: bool) -> str | None:
    if whole:
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                parser.parse_args(words)
        except SystemExit as ended:
            return said.getvalue() if ended.code else None
        return None
    for word in words:
        subparsers = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        if subparsers and not word.startswith("-"):
            if not re.match(r"[a-z]", word):
                return None  # a placeholder
            if word not in subparsers[0].choices:
                return f"no subcommand {word}"
            parser = subparsers[0].choices[word]
        elif (
            re.match(r"--?\w", word) and word.partition("=")[0] not in parser._option_string_actions
        ):
            return f"no option {word}"
    return None


def wrong_ros_arguments(words: list[str]) -> str | None:
    from dkt_ros.ros.params.parameters import NodeParameters
    from dkt_ros.ros.params.spec import specs
    from dkt_ros.ros.topics import OUTPUTS

    topics = REMAPPED | {output.topic for output in OUTPUTS}
    for flag, value in pairwise(words):
        name = value.partition(":=")[0]
        if flag == "-p" and name not in specs(NodeParameters):
            return f"no parameter {name}"
        if flag == "-r" and name not in topics:
            return f"no topic {name}"
        if flag == "--params-file" and value != "my.yaml" and not (ROOT / value).is_file():
            return f"no file {value}"
    unknown = {word for word in words if word.startswith("-")}
    unknown -= {"--help", "-h", "--ros-args", "--params-file", "-p", "-r"}
    return f"no option {', '.join(unknown)}" if unknown else None


def wrong_make(words: list[str]) -> str | None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z]+):", makefile, re.MULTILINE)
    scripts = makefile + (ROOT / "scripts/setup.sh").read_text()
    for word in words:
        variable, equals, _ = word.partition("=")
        if equals and f"{variable}=" not in scripts:
            return f"no variable {variable}"
        if not equals and word not in targets:
            return f"no target {word}"
    return None


def wrong_python(words: list[str]) -> str | None:
    if words[0] == "-m":
        found = importlib.util.find_spec(words[1])
        return None if found else f"no module {words[1]}"
    script = ROOT / words[0]
    if not script.is_file():
        return f"no file {words[0]}"
    text = script.read_text()
    flags = [word for word in words if word.startswith("--") and f'"{word}"' not in text]
    return f"{words[0]} has no {', '.join(flags)}" if flags else None


def wrong_ros2(words: list[str]) -> str | None:
    if words[:2] == ["launch", "dkt_ros"]:
        return wrong_launch(words[2:])
    if words[:2] == ["service", "call"]:
        name = words[3].removeprefix("dkt_ros/")
        file = ROOT / f"{name}.srv"
        if not file.is_file():
            return f"no service {words[3]}"
        fields = re.findall(r"^\S+ (\w+)", file.read_text().partition("\n---")[0], re.MULTILINE)
        given = yaml.safe_load(words[4]) if len(words) > 4 else {}
        unknown = set(given) - set(fields)
        return f"{name} has no {', '.join(unknown)}" if unknown else None
    known = {
        ("bag", "record"),
        ("lifecycle", "get"),
        ("lifecycle", "set"),
        ("pkg", "prefix"),
        ("run", "dkt_ros"),
        ("security", "create_enclave"),
        ("security", "create_keystore"),
        ("security", "create_permission"),
        ("security", "generate_policy"),
        ("topic", "delay"),
        ("topic", "echo"),
        ("topic", "hz"),
    }
    return None if tuple(words[:2]) in known else f"ros2 {words[0]} is not checked: see wrong_ros2"


def launch_arguments(name: str) -> set[str]:
    """Arguments that a launch file declares, without loading launch."""
    tree = ast.parse((ROOT / "launch" / name).read_text())
    own = {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "DeclareLaunchArgument"
        and isinstance(node.args[0], ast.Constant)
    }
    return {str(n) for n in own} | (
        launch_arguments("grasp.launch.py") if "replay" in name else set()
    )


def wrong_launch(words: list[str]) -> str | None:
    if not (ROOT / "launch" / words[0]).is_file():
        return f"no launch file {words[0]}"
    for word in words[1:]:
        name, assigned, _ = word.partition(":=")
        if word != "--show-args" and not (assigned and name in launch_arguments(words[0])):
            return f"{words[0]} has no argument {word}"
    return None


@pytest.mark.ros
def test_parameters_of_files_and_sentences_exist() -> None:
    from dkt_ros.ros.params.parameters import NodeParameters
    from dkt_ros.ros.params.planner_parameters import PlannerParameters
    from dkt_ros.ros.params.spec import specs

    for block in blocks("yaml"):
        content = yaml.safe_load(block.text)
        NodeParameters.from_values(content.get("/**", {}).get("ros__parameters", {}))
    known = {*specs(NodeParameters), *specs(PlannerParameters)} | OF_OTHERS
    for file in [*ROOT.glob("config/**/*.yaml"), *ROOT.glob("dkt_ros/train/recipes/**/*.yaml")]:
        known |= set(re.findall(r"^[\s#]*(\w+):", file.read_text(), re.MULTILINE))
    for page in PAGES:
        for span in spans(page):
            if setting := re.fullmatch(r"([a-z]\w+): (\S+)", span):
                assert setting[1] in known, f"{page.name}: no parameter {span}"
                if setting[1] in specs(NodeParameters):
                    NodeParameters.from_values({setting[1]: yaml.safe_load(setting[2])})


@pytest.mark.ros
def test_generated_files_are_as_the_code_says(repo_root: Path) -> None:
    from dkt_ros.ros.params.docs import generated

    for path, text in generated(repo_root).items():
        assert path.read_text() == text, f"{path} is old: run python -m dkt_ros.ros.params.docs"


def test_every_command_and_launch_argument_is_listed(repo_root: Path) -> None:
    text = (repo_root / "docs/commands.md").read_text()
    listed = set(re.findall(r"^\| `dkt ([a-z-]+)", text, flags=re.MULTILINE))
    actions = build_parser()._actions
    [subparsers] = [a for a in actions if isinstance(a, argparse._SubParsersAction)]
    assert listed == set(subparsers.choices)
    assert launch_arguments("replay.launch.py") <= spans(repo_root / "docs/robot.md")


def texts(constant: object) -> Iterator[str]:
    """What a constant of compiled code has of text."""
    if isinstance(constant, str):
        yield constant
    for part in constant.co_consts if isinstance(constant, CodeType) else ():
        yield from texts(part)


def test_what_the_trouble_table_quotes_stands_in_the_code(repo_root: Path) -> None:
    # Compiled, which is quicker than to parse into nodes and walk those.
    said = "\n".join(
        text
        for file in (repo_root / "dkt_ros").rglob("*.py")
        for text in texts(compile(file.read_text(), file, "exec", dont_inherit=True))
    )
    table = (repo_root / "docs/troubleshooting.md").read_text()
    symptoms = re.findall(r"^\| (.+?) \|", table, flags=re.MULTILINE)
    quotes = [q for cell in symptoms for q in re.findall(r"`([^`]+)`", cell) if " " in q]
    assert len(quotes) > 20
    assert [quote for quote in quotes if quote not in said] == []


def anchors(page: Path) -> set[str]:
    """Those that a code host gives to a page's headings, without the site."""
    headings = re.findall(r"^#+ (.+)$", blocks_and_prose(page)[1], flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere_without_the_site_too(page: Path) -> None:
    links = re.findall(r"\]\(([^):#]*)#?([^):]*)\)", page.read_text())
    for name, anchor in links:
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {name}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {name}#{anchor}"


def test_every_extra_is_listed() -> None:
    from dkt_ros.extras import EXTRAS

    table = (ROOT / "docs/robot.md").read_text().partition("| extra |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)) == set(EXTRAS)


def test_every_camera_preset_is_listed() -> None:
    table = (ROOT / "docs/robot.md").read_text().partition("| `camera` |")[2].partition("\n\n")[0]
    listed = re.findall(r"^\| ([\w, ]+) \|", table, flags=re.MULTILINE)
    presets = {file.stem for file in ROOT.glob("config/cameras/*.yaml")}
    assert {name for names in listed for name in names.split(", ")} == presets


def test_addresses_of_other_sites_have_a_form_that_can_be_right() -> None:
    for page in PAGES:
        for address in re.findall(r"\]\((\w+:[^)]*)\)|<(\w+:[^>]*)>", page.read_text()):
            parts = urlsplit("".join(address))
            right = parts.scheme == "https" and re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc)
            assert right, f"{page.name}: {''.join(address)}"


def build(repo_root: Path, site: Path, source: Path) -> subprocess.CompletedProcess[str]:
    script = repo_root / "scripts/docs.sh"
    return subprocess.run(
        [script, site, source], capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.docs
def test_the_site_is_built_and_needs_nothing_from_elsewhere(
    repo_root: Path, tmp_path: Path
) -> None:
    built = build(repo_root, tmp_path, repo_root)
    assert built.returncode == 0, built.stdout + built.stderr
    assert built.stderr == ""
    first = (tmp_path / "README.html").read_text()
    assert "url=README.html" in (tmp_path / "index.html").read_text()
    for page in PAGES:
        name = page.relative_to(repo_root).with_suffix(".html")
        assert page.name == "README.md" or f'href="{name}"' in first, f"{name}: not in the sidebar"
        text = (tmp_path / name).read_text()
        assert not re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(?:https?:)?//', text)
    for style in tmp_path.rglob("*.css"):
        assert not re.findall(r"url\(.?(?:https?:)?//", style.read_text()), style
    assert "retroreflect" not in (tmp_path / "searchindex.js").read_text()
    assert "uncertainti" in (tmp_path / "searchindex.js").read_text()  # stemmed
    assert "--part-frames" in (tmp_path / "docs/commands.html").read_text()


@pytest.mark.docs
def test_a_link_that_leads_nowhere_and_a_page_in_no_navigation_are_errors(
    repo_root: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    (source / "docs").mkdir(parents=True)
    (source / "ALONE.md").write_text("# Alone\n")
    (source / "README.md").write_text("# A\n\n[b](docs/b.md) [c](docs/b.md#c) [d](docs/d.md)\n")
    (source / "docs/b.md").write_text("# B\n\n![e](e.png) [a](../README.md#a)\n")
    for name in ("ARCHITECTURE", "CONTRIBUTING", "CHANGELOG"):
        (source / f"{name}.md").write_text("# X\n")
    built = build(repo_root, tmp_path / "site", source)
    assert built.returncode == 1
    named = re.findall(r"(\w+\.md).*WARNING: (.*)", built.stderr)
    assert len(named) == 4, built.stderr
    assert {page for page, _ in named} == {"README.md", "ALONE.md", "b.md"}
