"""The judge detects each fault: a test is one fault of a run, and its name in the totals."""

import unittest

import judge

NAME = "127.64.0.1:10000"


def connection(ending="done", begun=1, answered=1, status=200, time=100):
    return judge.Connection(NAME, begun, answered, ending, status, time)


class Verdicts(unittest.TestCase):
    def judge(self, *connections, claims="", outcomes=None, killed=None):
        verdict = judge.Judge(judge.read_claims(claims.splitlines()),
                              None if outcomes is None else judge.read_outcomes(outcomes.splitlines()),
                              killed or {})
        for each in connections:
            verdict.add(each)
        self.good = verdict.finish()
        self.totals = verdict.totals
        self.faults = verdict.faults
        return verdict

    def expect(self, good, **totals):
        names = ("failed_after_claim", "failed_unclaimed", "delivered_twice", "closed_unannounced",
                 "not_ended", "not_in_claim_log", "outcomes_missing", "outcomes_twice")
        self.assertEqual({name: self.totals[name] for name in names if self.totals[name]}, totals)
        self.assertEqual(self.good, good, self.faults)

    def test_an_answered_request_is_ok(self):
        self.judge(connection(), claims=f"claim 7 1 {NAME}\n", outcomes=f"outcome done 7 1 {NAME} 0\n")
        self.expect(True)
        self.assertEqual((self.totals["requests"], self.totals["ok"]), (1, 1))

    def test_a_claimed_connection_may_fail_after_its_worker_was_killed(self):
        for ending in ("closed", "reset"):
            self.judge(connection(ending, 3, 2), claims=f"claim 7 1 {NAME}\n", killed={7: 99})
            self.expect(True, failed_after_claim=1)
            self.assertEqual((self.totals["requests"], self.totals["ok"]), (3, 2))

    def test_the_proxys_word_is_a_proof_too(self):
        self.judge(connection("reset", 1, 0), outcomes=f"outcome kept 7 1 {NAME} 0\n", killed={7: 99})
        self.expect(True, failed_after_claim=1)
        self.assertEqual(self.totals["proven_by_outcome_only"], 1)

    def test_before_the_kill_nothing_may_fail(self):
        self.judge(connection("reset", 1, 0), claims=f"claim 7 1 {NAME}\n", killed={7: 101})
        self.expect(False, failed_unclaimed=1)

    def test_another_workers_death_is_no_excuse(self):
        self.judge(connection("reset", 1, 0), claims=f"claim 7 1 {NAME}\n", killed={8: 99})
        self.expect(False, failed_unclaimed=1)

    def test_what_nobody_had_claimed_may_not_fail(self):
        self.judge(connection("reset", 1, 0), killed={7: 99})
        self.expect(False, failed_unclaimed=1)
        self.judge(connection("reset", 1, 0), outcomes=f"outcome expired 0 3 {NAME} -113\n",
                   killed={7: 99})
        self.expect(False, failed_unclaimed=1)

    def test_a_bad_answer_has_no_excuse(self):
        for ending in ("status", "wrong", "timeout"):
            self.judge(connection(ending, 1, 0, 503), claims=f"claim 7 1 {NAME}\n", killed={7: 99})
            self.expect(False, failed_unclaimed=1)

    def test_a_refused_connection_has_no_excuse(self):
        self.judge(connection("no-connection", 1, 0, 0), outcomes="", killed={7: 99})
        self.expect(False, failed_unclaimed=1)

    def test_two_claims_are_a_delivery_too_many(self):
        self.judge(connection(), claims=f"claim 7 1 {NAME}\nclaim 8 2 {NAME}\n")
        self.expect(False, delivered_twice=1)
        self.judge(connection(), claims=f"claim 7 1 {NAME}\nclaim 7 1 {NAME}\n")
        self.expect(False, delivered_twice=1)

    def test_one_claim_in_each_log_by_two_is_too_many(self):
        self.judge(connection("reset", 1, 0), claims=f"claim 8 2 {NAME}\n",
                   outcomes=f"outcome kept 7 1 {NAME} 0\n", killed={7: 98, 8: 99})
        self.expect(False, delivered_twice=1, failed_unclaimed=1)

    def test_an_end_between_answers_wants_an_announcement(self):
        self.judge(connection("idle", 2, 2), claims=f"claim 7 1 {NAME}\n")
        self.expect(False, closed_unannounced=1)
        self.judge(connection("idle", 2, 2), claims=f"claim 7 1 {NAME}\n", killed={7: 99})
        self.expect(True)

    def test_a_connection_that_is_not_ended_is_seen(self):
        self.judge(connection("no-end"), claims=f"claim 7 1 {NAME}\n")
        self.expect(False, not_ended=1)

    def test_logs_that_know_less_than_the_clients_prove_nothing(self):
        self.judge(connection())
        self.expect(False, not_in_claim_log=1)
        self.judge(connection(), claims=f"claim 7 1 {NAME}\n", outcomes="")
        self.expect(False, outcomes_missing=1)

    def test_a_returned_connection_may_be_claimed_again(self):
        self.judge(connection("done", 3, 3),
                   claims=f"claim 7 1 {NAME}\nclaim 8 1 {NAME}\nclaim 7 1 {NAME}\n",
                   outcomes=f"outcome returned 7 1 {NAME} 0\noutcome returned 8 1 {NAME} 0\n"
                            f"outcome done 7 1 {NAME} 0\n")
        self.expect(True)
        self.assertEqual((self.totals["returned"], self.totals["connections_cut"]), (2, 0))

    def test_two_claims_and_one_return_too_few(self):
        self.judge(connection("done", 3, 3),
                   claims=f"claim 7 1 {NAME}\nclaim 8 1 {NAME}\nclaim 7 1 {NAME}\n",
                   outcomes=f"outcome returned 7 1 {NAME} 0\noutcome done 7 1 {NAME} 0\n")
        self.expect(False, delivered_twice=1)

    def test_a_worker_that_returned_it_is_no_excuse(self):
        self.judge(connection("reset", 2, 1), claims=f"claim 7 1 {NAME}\n",
                   outcomes=f"outcome returned 7 1 {NAME} 0\n", killed={7: 99})
        self.expect(False, failed_unclaimed=1)
        self.judge(connection("reset", 2, 1), claims=f"claim 7 1 {NAME}\nclaim 8 1 {NAME}\n",
                   outcomes=f"outcome returned 7 1 {NAME} 0\noutcome kept 8 1 {NAME} 0\n", killed={8: 99})
        self.expect(True, failed_after_claim=1)

    def cuts(self, each, **logs):
        self.judge(each, **logs)
        return tuple(self.totals[name] for name in ("connections_cut", "cut_in_request", "cut_at_worker"))

    def test_an_end_that_the_client_did_not_choose_is_a_cut(self):
        for ending in ("announced", "idle", "closed", "reset", "no-connection", "no-end", "timeout", "wrong"):
            self.assertEqual(self.cuts(connection(ending), claims=f"claim 7 1 {NAME}\n"), (1, 0, 0))
        self.assertEqual(self.cuts(connection(), claims=f"claim 7 1 {NAME}\n"), (0, 0, 0))

    def test_a_killed_worker_takes_with_it_what_it_had_claimed(self):
        claim = f"claim 7 1 {NAME}\n"
        for ending in ("idle", "closed", "reset"):
            self.assertEqual(self.cuts(connection(ending, 2, 1), claims=claim, killed={7: 99}), (0, 1, 0))
            self.assertEqual(self.cuts(connection(ending, 2, 2), claims=claim, killed={7: 99}), (0, 0, 1))

    def test_a_killed_worker_takes_nothing_else_with_it(self):
        claim, returned = f"claim 7 1 {NAME}\n", f"outcome returned 7 1 {NAME} 0\n"
        for begun in (1, 2):
            cut = connection("reset", begun, 1)
            self.assertEqual(self.cuts(cut, claims=claim, outcomes=returned, killed={7: 99}), (1, 0, 0))
            self.assertEqual(self.cuts(cut, claims=claim, killed={8: 99}), (1, 0, 0))
            self.assertEqual(self.cuts(cut, claims=claim, killed={7: 101}), (1, 0, 0))
            self.assertEqual(self.cuts(cut, killed={7: 99}), (1, 0, 0))

    def test_no_death_excuses_what_a_server_does_on_purpose(self):
        for ending in ("announced", "no-connection", "no-end", "timeout", "wrong"):
            self.assertEqual(self.cuts(connection(ending), claims=f"claim 7 1 {NAME}\n", killed={7: 99}),
                             (1, 0, 0))

    def test_an_outcome_comes_once(self):
        self.judge(connection(), claims=f"claim 7 1 {NAME}\n",
                   outcomes=f"outcome done 7 1 {NAME} 0\noutcome kept 7 1 {NAME} 0\n")
        self.expect(False, outcomes_twice=1)

    def test_a_name_is_given_once(self):
        self.judge(connection(), connection(), claims=f"claim 7 1 {NAME}\n")
        self.assertFalse(self.good)

    def test_a_stranger_is_seen(self):
        self.judge(connection(), claims=f"claim 7 1 {NAME}\nclaim 7 1 127.0.0.1:1\n")
        self.assertFalse(self.good)

    def test_the_clients_lines_are_read(self):
        line = "127.64.0.1:10000 3 2 reset 206 12185391844729\n"
        self.assertEqual(list(judge.read_connections([line])),
                         [judge.Connection(NAME, 3, 2, "reset", 206, 12185391844729)])


if __name__ == "__main__":
    unittest.main()
