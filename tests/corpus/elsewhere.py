"""Cases that another test judges, and those that nothing judges yet; both by name, with reasons."""

from __future__ import annotations

ELSEWHERE: dict[str, tuple[str, ...]] = {
    "F01": (
        "tests/zoo/test_zoo_crash.py::test_zoo_is_old_or_new_when_killed_at_any_step",
        "tests/training/test_training_signals.py::test_train_resumes_exactly_after_kill_9",
    ),
    "F02": (
        "tests/zoo/test_zoo_crash.py::test_zoo_is_untouched_when_the_disk_refuses_any_step",
        "tests/training/test_training_checkpoint.py"
        "::test_checkpoint_refuses_a_full_disk_and_keeps_the_older_ones",
    ),
    "F03": ("tests/test_files.py::test_failed_sync_leaves_the_previous_state",),
    "F04": ("tests/zoo/test_zoo_catalog.py::test_zoo_is_read_where_nothing_can_be_written",),
    "F06": (
        "tests/zoo/test_zoo_crash.py::test_one_flipped_bit_is_found_by_verify",
        "tests/training/test_training_checkpoint.py"
        "::test_resume_falls_back_from_a_damaged_checkpoint_and_says_so",
    ),
    "F07": (
        "tests/zoo/test_zoo_crash.py::test_second_writer_is_told_who_holds_the_zoo",
        "tests/zoo/test_zoo_crash.py::test_lock_dies_with_its_process",
        "tests/training/test_training_checkpoint.py"
        "::test_train_refuses_a_folder_that_another_run_holds",
    ),
    "F08": (
        "tests/test_files.py::test_publish_refuses_a_folder_that_is_not_ours",
        "tests/cli/test_cli_generate.py::test_generate_never_replaces_a_folder_of_others",
    ),
    "F11": (
        "tests/training/test_training_signals.py"
        "::test_train_checkpoints_and_exits_with_0_on_a_stop_signal",
        "tests/training/test_training_signals.py::test_train_exits_at_once_on_a_second_signal",
    ),
    "F12": (
        "tests/training/test_training_checkpoint.py::test_resume_refuses_other_code_or_processes",
        "tests/training/test_training_checkpoint.py::test_resume_refuses_other_data",
    ),
}
"""Number -> the tests that judge it, as pytest names them; they must exist."""

NOT_YET: dict[str, str] = {
    "F05": "a quota needs a file system of its own; ENOSPC of F02 takes the same path",
    "F09": "memory ends while loading under the corpus's own limit; generate and train do not yet",
    "F10": "the app's queue and cancellation are tested with the app",
    "F13": "training stops at a loss that is not finite; items are not put in quarantine yet",
    "F14": "the app's upload quota is tested with the app",
    "P01": "no sample of poisoned adapters and no risk score yet",
    "P02": "duplicates are grouped; no cap for each source and no alarm for hubs yet",
    "P03": "cards are never parsed; there is no importer from the hub that could use one",
    "U03": "escaping is tested verb by verb; a page in a browser belongs to the app",
    "U04": "no YAML of a card is ever parsed, so there is nothing to hand it to",
    "U05": "the page's files are tested with the app",
    "U06": "requests across origins are tested with the app",
    "U07": "names of downloads are tested with the app",
}
"""Number -> why no test judges it."""

NUMBERS = frozenset(
    f"{letter}{number:02d}"
    for letter, last in (("W", 40), ("C", 22), ("Z", 11), ("U", 8), ("P", 3), ("F", 14))
    for number in range(1, last + 1)
)
"""All numbers of the table of cases: 98."""
