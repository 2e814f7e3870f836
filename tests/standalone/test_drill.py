"""The drill's transcript against the demo's API: of every kind, repeatable, and telling."""

from dataclasses import replace
from pathlib import Path

import pytest
import requests

from standalone.programs import program, run
from tests.beds.drill import transcript
from tests.beds.drill.transcript import ApiDoor, Call, CallSubjects
from tests.standalone.demo import PARCELS, Demo

GUEST = "guest"


@pytest.fixture(scope="module")
def door(synthetic: Demo) -> ApiDoor:
    """The demo's API for its operator, and for a user who may only read."""
    owner = dict(
        line.split("=", 1) for line in (synthetic.folder / "owner.env").read_text().splitlines()
    )
    users = [program("cbm-api"), "users"]
    run([*users, "add", GUEST, "--password-stdin"], owner, stdin="a guest's password\n")
    run([*users, "grant", GUEST, synthetic.env["CBM_AOI"]], owner)
    passwords = {
        synthetic.env["CBM_USER"]: synthetic.env["CBM_PASSWORD"],
        GUEST: "a guest's password",
    }
    return ApiDoor(synthetic.env["CBM_URL"], passwords)


@pytest.fixture(scope="module")
def subjects(door: ApiDoor) -> CallSubjects:
    return transcript.find_subjects(door, next(iter(door.passwords)))


@pytest.fixture(scope="module")
def recorded(door: ApiDoor, subjects: CallSubjects) -> list[transcript.TranscriptEntry]:
    calls = transcript.build_calls(subjects, list(door.passwords))
    return list(transcript.record(door, calls))


def test_there_are_200_calls_of_every_route_as_both_users(
    door: ApiDoor, subjects: CallSubjects, recorded: list[transcript.TranscriptEntry]
) -> None:
    calls = transcript.build_calls(subjects, list(door.passwords))
    assert len(calls) == 200
    assert {call.user for call in calls} == set(door.passwords)
    paths = requests.get(f"{door.url}/openapi.json", timeout=60).json()["paths"]
    assert transcript.find_uncovered(paths, calls) == []
    assert transcript.find_uncovered([*paths, "/query/new"], calls) == ["/query/new"]


def test_answers_are_successes_refusals_and_images(
    recorded: list[transcript.TranscriptEntry],
) -> None:
    answers = [entry.answer for entry in recorded]
    statuses = {answer.status for answer in answers}
    assert {200, 400, 403, 404} <= statuses, transcript.count_kinds(recorded)
    assert not {500, 502, 503} & statuses, transcript.count_kinds(recorded)
    images = [answer.image for answer in answers if answer.image.startswith("200 ")]
    assert len(set(images)) > 10
    assert sum(sum(answer.blanked) for answer in answers) > 0


def test_the_two_users_have_different_rights(door: ApiDoor) -> None:
    failures = [
        door.send(Call(user, "GET", "/page/progress")).json()["campaigns"][0]["failures"]
        for user in door.passwords
    ]
    assert failures == [[], None], "an operator sees failures, a reader does not"


def test_a_replay_after_a_restart_gives_the_same_bytes_and_one_changed_value_is_found(
    synthetic: Demo,
    door: ApiDoor,
    recorded: list[transcript.TranscriptEntry],
    tmp_path: Path,
) -> None:
    transcript.write(tmp_path / "transcript.jsonl", recorded)
    known = transcript.read(tmp_path / "transcript.jsonl")
    assert known == recorded
    changed = replace(known[0], answer=replace(known[0].answer, digest="0" * 64))
    synthetic.make("stop")
    again = synthetic.up(f"--synthetic-parcels={PARCELS}")
    restarted = replace(door, url=again.env["CBM_URL"])
    found = [difference for _, difference in transcript.replay(restarted, [changed, *known[1:]])]
    assert [str(difference) for difference in found[1:] if difference] == []
    assert found[0] is not None
    assert "digest 0000" in str(found[0])


def test_only_what_is_listed_is_blanked() -> None:
    proof = "0066f2b8c05d41402abc4b2a76b9719d911017c592"
    body = f'{{"chips":["/chips/{proof}/1~nl/c_17_8.6/x.png","/chip/{proof},1,c_1/x.tif"]}}'
    blanked, counts = transcript.blank(body.encode())
    assert blanked == b'{"chips":["/chips/*/1~nl/c_17_8.6/x.png","/chip/*,1,c_1/x.tif"]}'
    assert counts == (1, 1, 0)
    assert transcript.blank(b'{"mean":[0.5]}') == (b'{"mean":[0.5]}', (0, 0, 0))
    assert Call("ann", "GET", "/x", {"a": 1}).title == "ann: GET /x a=1"
