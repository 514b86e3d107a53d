"""Counts the tests in a JUnit file of ctest: those inside each libcheck executable, and one for any other test.

usage: count_ctest.py FILE      prints "N passed, N failed", exits 1 if any failed or none ran
"""

import re
import sys
import xml.etree.ElementTree

CHECKS = re.compile(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)", re.M)


def count(root):
    passed = failed = 0
    for case in root.iter("testcase"):
        output = "".join(case.itertext())
        checks = failures = 0
        for groups in CHECKS.findall(output):
            checks += int(groups[0])
            failures += int(groups[1]) + int(groups[2])
        if case.get("status") == "run":
            passed += max(checks, 1)
        else:  # an executable that failed without saying in which test counts as one
            passed += checks - failures
            failed += max(failures, 1)
    return passed, failed


def main():
    passed, failed = count(xml.etree.ElementTree.parse(sys.argv[1]).getroot())
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
