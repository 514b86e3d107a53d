"""Counts the tests of a ctest log: those inside each libcheck executable, and one for any other test.

usage: count_ctest.py LastTest.log      prints "N passed, N failed", exits 1 if any failed
"""

import re
import sys

CHECKS = re.compile(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)", re.M)


def count(text):
    passed = failed = 0
    for block in re.split(r"^-{50,}\n(?=Test )|^(?=\d+/\d+ Test(?:ing)?: )", text, flags=re.M):
        if not re.match(r"\d+/\d+ Test(ing)?: ", block):
            continue
        ok = re.search(r"^Test Passed\.", block, re.M) is not None
        sums = [tuple(map(int, groups)) for groups in CHECKS.findall(block)]
        block_failed = sum(failures + errors for _, failures, errors in sums)
        if not ok and block_failed == 0:
            block_failed = 1
        passed += sum(checks for checks, _, _ in sums) - sum(f + e for _, f, e in sums) if sums else int(ok)
        failed += block_failed
    return passed, failed


def main():
    with open(sys.argv[1], encoding="utf-8", errors="replace") as log:
        passed, failed = count(log.read())
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
