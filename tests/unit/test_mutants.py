"""The list of `make mutants` fits the tree, so that it cannot rot between two runs of it."""

from tests.mutants.run import ROOT, read_list


def test_every_text_is_found_once_and_every_test_is_there():
    mutants = read_list()
    assert sum(not mutant.equivalent for mutant in mutants) >= 100
    for mutant in mutants:
        assert mutant.line(ROOT) > 0
        assert mutant.equivalent or mutant.tests
        for test in mutant.tests:
            file, *names = test.split("::")
            text = (ROOT / file).read_text("utf-8")
            assert all(f"def {name.partition('[')[0]}(" in text for name in names), test
