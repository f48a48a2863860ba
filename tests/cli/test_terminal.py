"""What a run says where there is no terminal."""

from cxr_dicom.cli._terminal import EACH_UP_TO, _Lines
from cxr_dicom.cohort.finished import Done
from cxr_dicom.cohort.run import Progress
from cxr_dicom.cohort.tally import Tally


def test_the_first_result_of_many_is_told_at_once_and_the_next_not(capsys):
    tally, lines = Tally(EACH_UP_TO + 1), _Lines()
    lines.report(Progress(tally=tally))
    assert capsys.readouterr().err == ""
    for number in range(3):
        done = Done(
            key=str(number),
            studies=1,
            index=(),
            outcomes={("processed", None): 1},
            objects=5,
            models=(),
            device="cpu",
            has_scores=False,
        )
        tally.add(done)
        lines.report(Progress(tally=tally, latest=done))
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith(f"[1/{EACH_UP_TO + 1}] 1 processed")
