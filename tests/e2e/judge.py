"""The verdict detects each kind of fault."""

import unittest

import clients
import verdict


def line(number, address="198.18.1.1", server="m1", state="----", retries="0"):
    return (f"<134>Nov 30 09:00:00 lb haproxy[7]: {address}:4000 [30/Nov/2026:09:00:00.000] www ferry/{server} "
            f'0/0/0/1/1 200 123 - - {state} 1/1/0/0/{retries} 0/0 "GET /page?n={number} HTTP/1.1"')


def claim(address="198.18.1.1"):
    return f"claim 12 1 {address}:4000"


def access(number, address="198.18.1.1"):
    return f'{address}:4000 - - [30/Nov/2026:09:00:00 +0000] "GET /page?n={number} HTTP/1.1" 200 15'


def request(number, error="", address="198.18.1.1"):
    return clients.Request(number, address, error)


def judge(requests, lines, claims=(), answers=()):
    """The claims and the answers are those of m1; m2 has none."""
    return verdict.Judge(requests, lines, {"m1": claims, "m2": ()}, {"m1": answers, "m2": ()})


class Verdict(unittest.TestCase):
    def test_a_run_without_faults(self):
        judged = judge([request(1), request(2)], [line(1), line(2, retries="+1")], [claim(), claim()],
                       [access(1), access(2)])
        self.assertEqual(judged.mislogged(), [])
        self.assertEqual(judged.unproven(), [])
        self.assertEqual(judged.served_by("m1"), 2)
        self.assertEqual(judged.served_by("m1", since=1), 1)
        self.assertIn("requests 2, retried 1, failed 0", judged.figures())

    def test_a_failure_that_the_dead_machine_had_claimed(self):
        judged = judge([request(1), request(2, "reset")], [line(1), line(2, state="SD--")], [claim(), claim()],
                       [access(1)])
        self.assertEqual(judged.unproven("m1"), [])
        self.assertIn("failed 1, claimed on the dead machine 1", judged.figures("m1"))

    def assert_unproven(self, why, requests, lines, claims, dead="m1"):
        judged = judge(requests, lines, claims, [access(1)])
        [fault] = judged.unproven(dead)
        self.assertIn(why, fault)

    def test_no_machine_has_died(self):
        self.assert_unproven("no machine", [request(1), request(2, "reset")], [line(1), line(2)], [claim(), claim()],
                             dead=None)

    def test_another_machine_has_died(self):
        self.assert_unproven("to m1", [request(1), request(2, "reset")], [line(1), line(2)], [claim(), claim()],
                             dead="m2")

    def test_no_claim(self):
        self.assert_unproven("claimed the connection 1 times, and answered 1",
                             [request(1), request(2, "reset")], [line(1), line(2)], [claim()])

    def test_the_claim_of_another_client(self):
        self.assert_unproven("claimed the connection 1 times", [request(1), request(2, "reset")], [line(1), line(2)],
                             [claim(), claim("198.18.1.2")])

    def test_two_claims_for_one_failure(self):
        self.assert_unproven("claimed the connection 3 times", [request(1), request(2, "reset")], [line(1), line(2)],
                             [claim(), claim(), claim()])

    def test_the_claim_of_a_retried_request(self):
        self.assert_unproven("retried", [request(1), request(2, "reset")],
                             [line(1, server="m2", retries="+1"), line(2)], [claim()])

    def test_no_line_of_the_balancer(self):
        self.assert_unproven("no line", [request(1), request(2, "reset")], [line(1)], [claim(), claim()])

    def test_an_answer_without_a_line(self):
        self.assertEqual(len(judge([request(1)], [], [claim()], [access(1)]).mislogged()), 1)

    def test_an_answer_to_another_client(self):
        self.assertEqual(len(judge([request(1)], [line(1, "198.18.1.2")], [claim()], [access(1)]).mislogged()), 1)
        self.assertEqual(len(judge([request(1)], [line(1)], [claim()], [access(1, "10.77.0.10")]).mislogged()), 1)
        self.assertEqual(len(judge([request(1)], [line(1)], [claim()], []).mislogged()), 1)
        self.assertEqual(len(judge([request(1)], [line(1)], [claim()], [access(1), access(1)]).mislogged()), 1)

    def test_an_answer_of_a_worker_that_was_killed_before_it_logged(self):
        self.assertEqual(judge([request(1)], [line(1)], [claim()]).mislogged("m1"), [])
        for dead, claims, answers in ((None, [claim()], []), ("m2", [claim()], []), ("m1", [], []),
                                      ("m1", [claim("198.18.1.2")], []), ("m1", [claim()], [access(1), access(1)]),
                                      ("m1", [claim()], [access(1, "10.77.0.10")])):
            with self.subTest(dead, claims=claims, answers=answers):
                requests = [request(1), request(2, "reset", "198.18.1.2")]
                lines = [line(1), line(2, "198.18.1.2")]
                self.assertEqual(len(judge(requests, lines, claims, answers).mislogged(dead)), 1)

    def test_a_claim_of_a_stranger(self):
        self.assertEqual(len(judge([request(1)], [line(1)], [claim(), claim("10.77.0.10")], [access(1)]).mislogged()),
                         1)

    def test_two_lines_of_one_request(self):
        with self.assertRaises(AssertionError):
            judge([request(1)], [line(1), line(1)])


if __name__ == "__main__":
    unittest.main()
