import pytest

from streaming.watch.standing import StandingAnswer


@pytest.mark.parametrize(
    ("confirm", "heard", "fired"),
    [
        (1, "nnyyn", "n-y-n"),
        (2, "nnyynn", "-n-y-n"),
        (2, "nynynn", "-----n"),
        (2, "nnynnyny", "-n------"),
        (3, "nnnynyyy", "--n----y"),
    ],
)
def test_a_change_is_told_once_it_is_no_slip(confirm: int, heard: str, fired: str) -> None:
    standing = StandingAnswer(confirm)
    told = [answer if standing.hear(f" {answer}\n") else "-" for answer in heard]
    assert "".join(told) == fired
    assert standing.settled == fired.replace("-", "")[-1]
