"""The checks of `./dev lint --quick`: layers, sizes, white space, words, format, syntax. Prints file:line: message.

Looks at the files that git knows (tracked, or new and not ignored). Standard library only; clang-format is called.
"""

import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 900
COLUMNS_MAX = 125  # 120 is the aim; in C, clang-format decides

# --- who may include what: docs/ARCHITECTURE.md ---

LIBC = set("""assert ctype errno fcntl fenv float inttypes limits locale math signal stdalign stdarg stdatomic stdbool
stddef stdint stdio stdlib string strings time unistd pthread poll dirent getopt netdb syslog termios execinfo sched malloc
fnmatch wchar wctype endian libgen sysexits""".split())
LIBC_DIRECTORIES = ("sys/", "linux/", "netinet/", "arpa/", "sanitizer/")
# What decides an answer must not come from outside (DESIGN: the core is a pure function).
IMPURE = {"time", "sys/time", "sys/random", "sys/socket", "sys/epoll", "sys/timerfd", "netdb", "netinet/in", "netinet/tcp",
          "arpa/inet", "poll", "signal", "unistd", "fcntl"}

# directory -> (our directories, libraries, libc headers that are refused)
LAYERS = {
    "store": ({"store"}, {"xxhash", "lz4frame"}, IMPURE),
    "consensus": ({"consensus"}, {"xxhash", "lz4frame"}, IMPURE),
    "net": ({"net"}, {"uv", "xxhash"}, set()),
    "cmd/lockstepd": ({"cmd/lockstepd", "net", "consensus", "store"}, {"uv", "xxhash"}, set()),
    "cmd/lockstep": ({"cmd/lockstep", "consensus", "store"},
                     {"uv", "hiredis/*", "editline/*", "histedit", "jansson", "xxhash"}, set()),
}
# (file pattern, additional libraries, is libc unrestricted)
EXCEPTIONS = [
    (r"consensus/env_uv[a-z0-9_]*\.[ch]$", {"uv"}, True),
    (r"consensus/replica[a-z0-9_]*\.[ch]$", {"raft"}, False),
]
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^">]+)[">]')

# --- words that must not be in the tree ---

WORDS = [
    (re.compile(r"(?<![\w.$}])/(?:work|root|home/\w+)(?=[/\s\"'`,;:)]|$)"), "a path of one machine"),
    (re.compile(r"\b(?:TODO|FIXME|XXX)\b"), "an unfinished mark: finish it, or open an issue"),
]
WORDS_EXEMPT = {"scripts/lint.py", "LICENSE"}

findings = []


def report(path, line, message):
    findings.append((path, line, message))


def tracked_files():
    out = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                         capture_output=True, check=True).stdout
    paths = sorted(set(out.decode().split("\0")) - {""})
    return [path for path in paths if os.path.isfile(os.path.join(ROOT, path))]


def read_text(path):
    """The file's lines, or None for a binary one."""
    with open(os.path.join(ROOT, path), "rb") as file:
        data = file.read()
    if b"\0" in data:
        return None
    try:
        return data.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        return None


def layer_of(path):
    for directory, rules in LAYERS.items():
        if path.startswith(directory + "/"):
            return directory, rules
    return None, None


def library_allowed(name, libraries):
    return name in libraries or any(lib.endswith("/*") and name.startswith(lib[:-1]) for lib in libraries)


def check_includes(path, lines):
    directory, rules = layer_of(path)
    if rules is None:
        check_raft_alone(path, lines)
        return
    ours, libraries, refused = rules
    for pattern, more, libc_free in EXCEPTIONS:
        if re.match(pattern, path):
            libraries = libraries | more
            refused = set() if libc_free else refused
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if match is None:
            continue
        quote, name = match.groups()
        if quote == '"':
            if not any(name.startswith(d + "/") and "/" not in name[len(d) + 1:] for d in ours):
                report(path, number, "%s/ must not include \"%s\" (docs/ARCHITECTURE.md)" % (directory, name))
            continue
        stem = name[:-2] if name.endswith(".h") else name
        if stem in LIBC or stem.startswith(LIBC_DIRECTORIES):
            if stem in refused:
                report(path, number, "%s/ must not include <%s>: time, randomness, disk and network come in through "
                                     "consensus/env.h" % (directory, name))
        elif not library_allowed(stem, libraries):
            report(path, number, "%s/ must not include <%s> (docs/ARCHITECTURE.md)" % (directory, name))


def check_raft_alone(path, lines):
    if re.match(r"tests/(sim/|unit/test_replica)", path):
        return
    for number, line in enumerate(lines, 1):
        if re.match(r"\s*#\s*include\s*[<\"]raft", line):
            report(path, number, "raft.h is for consensus/replica*.c and the simulator alone")


def check_functions(path, lines):
    """A function is what begins at column 0, has a parameter list, and whose body ends with `}` at column 0."""
    start = None
    for number, line in enumerate(lines, 1):
        if start is None:
            opens = line == "{" or (line.endswith("{") and re.match(r"[A-Za-z_].*\)\s*\{$", line))
            if opens or (re.match(r"[a-z_].*[({,]$|[a-z_].*\)$", line) and not line.startswith(("#", "typedef"))):
                start = number
        elif line == "}":
            if number - start + 1 > FUNCTION_LINES_MAX:
                report(path, start, "function of %d lines, at most %d" % (number - start + 1, FUNCTION_LINES_MAX))
            start = None
        elif line.startswith("}") or line.endswith(";") and not line.startswith((" ", "\t")):
            start = None


def check_text(path, lines):
    is_code = path.endswith((".c", ".h", ".py", ".sh", ".cmake", "CMakeLists.txt")) or path in ("dev", ".ci/run")
    for number, line in enumerate(lines, 1):
        if line != line.rstrip():
            report(path, number, "trailing white space")
        if "\t" in line and not path.endswith((".go", "go.mod", "go.sum", ".patch")):
            report(path, number, "a tab")
        if is_code and not path.endswith((".c", ".h")) and len(line) > COLUMNS_MAX: # C: clang-format decides
            report(path, number, "%d columns, at most %d" % (len(line), COLUMNS_MAX))
        if path not in WORDS_EXEMPT:
            for pattern, what in WORDS:
                if pattern.search(line):
                    report(path, number, what)
    if lines[-1] != "" or len(lines) > 1 and lines[-2] == "":
        report(path, len(lines), "must end with one line feed")
    if is_code and len(lines) - 1 > FILE_LINES_MAX:
        report(path, 1, "%d lines, at most %d" % (len(lines) - 1, FILE_LINES_MAX))


def check_format(paths):
    if not paths:
        return
    run = subprocess.run(["clang-format", "--dry-run", "--ferror-limit=1"] + paths, cwd=ROOT, capture_output=True,
                         text=True, check=False)
    seen = set()
    for match in re.finditer(r"^(\S+?):(\d+):\d+: (?:warning|error): code should be clang-formatted", run.stderr, re.M):
        if match.group(1) not in seen:
            seen.add(match.group(1))
            report(match.group(1), int(match.group(2)), "not formatted: ./dev fmt")
    if run.returncode != 0 and not seen:
        report(".clang-format", 1, run.stderr.strip() or "clang-format failed")


def check_syntax(path, lines):
    if path.endswith(".py"):
        try:
            compile("\n".join(lines), path, "exec")
        except SyntaxError as error:
            report(path, error.lineno or 1, error.msg)
    elif path.endswith(".sh") or path in ("dev", ".ci/run"):
        run = subprocess.run(["bash", "-n", path], cwd=ROOT, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            report(path, 1, run.stderr.strip())


def check_packages():
    """Every package that ./dev installs has its reason in docs/DEPENDENCIES.md."""
    lines = read_text("docs/DEPENDENCIES.md") if os.path.exists(os.path.join(ROOT, "docs/DEPENDENCIES.md")) else None
    if lines is None:
        report("docs/DEPENDENCIES.md", 1, "missing")
        return
    for number, line in enumerate(read_text("scripts/packages.txt"), 1):
        if line and not line.startswith("#"):
            package = line.split("|")[1].strip()
            if not any("`%s`" % package in text for text in lines):
                report("scripts/packages.txt", number, "`%s` has no reason in docs/DEPENDENCIES.md" % package)


def main():
    c_paths = []
    for path in tracked_files():
        lines = read_text(path)
        if lines is None or path.startswith(("tests/fuzz/corpus/", "tests/golden/")):
            continue
        check_text(path, lines)
        check_syntax(path, lines)
        if path.endswith((".c", ".h")):
            c_paths.append(path)
            check_includes(path, lines)
            check_functions(path, lines)
    check_format(c_paths)
    check_packages()
    for path, line, message in sorted(findings):
        print("%s:%d: %s" % (path, line, message))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
