"""Cases that a test of their own judges, instead of the oracle or beside it; by name."""

from __future__ import annotations

CRASH, TRAINING = "tests/crash", "tests/training"
CHECKPOINT = f"{TRAINING}/test_training_checkpoint.py"
GATE, SERVER = "tests/app/test_app_upload_gate.py", "tests/corpus/test_corpus_server.py"
RETRIES, SERVICE = "tests/app/test_app_retries.py", "tests/app/test_app_service.py"

ELSEWHERE: dict[str, tuple[str, ...]] = {
    "F01": (
        "tests/zoo/test_zoo_crash.py::test_zoo_is_old_or_new_when_killed_at_any_step",
        f"{TRAINING}/test_training_signals.py::test_train_resumes_exactly_after_kill_9",
    ),
    "F02": (
        "tests/zoo/test_zoo_crash.py::test_zoo_is_untouched_when_the_disk_refuses_any_step",
        f"{CHECKPOINT}::test_checkpoint_refuses_a_full_disk_and_keeps_the_older_ones",
    ),
    "F03": ("tests/test_files.py::test_failed_sync_leaves_the_previous_state",),
    "F04": ("tests/zoo/test_zoo_catalog.py::test_zoo_is_read_where_nothing_can_be_written",),
    "F05": (f"{CRASH}/test_disk_refuses.py::test_file_size_limit_leaves_the_old_state",),
    "F06": (
        "tests/zoo/test_zoo_crash.py::test_one_flipped_bit_is_found_by_verify",
        f"{CHECKPOINT}::test_resume_falls_back_from_a_damaged_checkpoint_and_says_so",
    ),
    "F07": (
        "tests/zoo/test_zoo_crash.py::test_second_writer_is_told_who_holds_the_zoo",
        "tests/zoo/test_zoo_crash.py::test_lock_dies_with_its_process",
        f"{CHECKPOINT}::test_train_refuses_a_folder_that_another_run_holds",
    ),
    "F08": (
        "tests/test_files.py::test_publish_refuses_a_folder_that_is_not_ours",
        "tests/cli/test_cli_generate.py::test_generate_never_replaces_a_folder_of_others",
    ),
    "F09": ("tests/test_memory.py::test_generate_refuses_when_memory_ends_and_works_again",),
    "F10": (
        f"{RETRIES}::test_ten_retries_of_one_key_make_one_output",
        f"{RETRIES}::test_retries_at_once_wait_for_the_first",
        f"{RETRIES}::test_retry_after_the_client_left_early_makes_it_anew",
    ),
    "F11": (
        f"{TRAINING}/test_training_signals.py"
        "::test_train_checkpoints_and_exits_with_0_on_a_stop_signal",
        f"{TRAINING}/test_training_signals.py::test_train_exits_at_once_on_a_second_signal",
    ),
    "F12": (
        f"{CHECKPOINT}::test_resume_refuses_other_code_or_processes",
        f"{CHECKPOINT}::test_resume_refuses_other_data",
    ),
    "F14": (
        f"{GATE}::test_ten_thousand_uploads_stay_below_the_quota",
        f"{GATE}::test_gate_makes_room_for_each_upload",
        f"{SERVICE}::test_session_forgets_its_oldest_adapter_and_its_files",
    ),
    "U03": (
        "tests/corpus/test_corpus_page.py::test_browser_runs_nothing_and_asks_nobody",
        f"{SERVICE}::test_markup_keeps_a_text_a_text",
    ),
    "U05": (
        f"{SERVER}::test_own_upload_is_taken_and_that_of_another_is_not",
        f"{SERVER}::test_path_that_was_not_uploaded_is_refused",
        f"{SERVER}::test_name_of_an_upload_leads_nowhere",
        f"{SERVER}::test_file_route_gives_nothing_away",
    ),
    "U06": (
        f"{SERVER}::test_post_of_another_site_is_refused",
        f"{SERVER}::test_host_of_a_rebound_name_is_refused",
        f"{SERVER}::test_long_list_of_ranges_is_refused",
        f"{SERVER}::test_thousand_and_one_files_are_refused",
        f"{SERVER}::test_hundred_thousand_part_headers_are_refused",
        f"{SERVER}::test_large_json_body_is_refused",
        f"{SERVER}::test_upload_that_trickles_is_given_up_and_harms_nobody",
    ),
}
"""Number -> the tests that judge it, as pytest names them; they must exist and run by default."""

NUMBERS = frozenset(
    f"{letter}{number:02d}"
    for letter, last in (("W", 40), ("C", 22), ("Z", 11), ("U", 8), ("P", 3), ("F", 14))
    for number in range(1, last + 1)
)
"""All numbers of the table of cases: 98."""
