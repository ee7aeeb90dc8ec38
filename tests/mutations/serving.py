"""Bugs of the server and its guard."""

from __future__ import annotations

from mutations.case import Mutation

SECURITY, SERVICE = "src/burnish/web/security.py", "src/burnish/serving/service.py"
GUARD, ANSWERS, API = "tests/web/test_security.py", "tests/serving/test_service.py", "tests/serving/test_api.py"

MUTATIONS = [
    Mutation(
        name="serving: what is quoted is not compared with the answer",
        file="src/burnish/serving/openai.py",
        old="span.quote not in (None, answer.answer[span.start : span.end])",
        new="False",
        tests="tests/serving/test_api.py::test_marks_are_taken_with_their_places_and_what_they_cannot_mean_is_refused",
    ),
    Mutation(
        name="serving: a route outside authentication",
        file=SECURITY,
        old='OPEN = frozenset({"/health", "/ready"})',
        new='OPEN = frozenset({"/health", "/ready", "/v1/models"})',
        tests=f"{GUARD}::test_no_route_answers_without_credentials",
    ),
    Mutation(
        name="serving: any host that begins like ours",
        file=SECURITY,
        old="if len(named) != 1 or named[0].lower() not in hosts:",
        new="if len(named) != 1 or not named[0].lower().startswith(HOSTS):",
        tests=f"{GUARD}::test_foreign_hosts_are_refused_on_every_route",
    ),
    Mutation(
        name="serving: the Origin null is taken for none",
        file=SECURITY,
        old='origins = request.headers.getlist("origin")',
        new='origins = [o for o in request.headers.getlist("origin") if o != "null"]',
        tests=f"{GUARD}::test_foreign_origins_change_nothing",
    ),
    Mutation(
        name="serving: a form may change something",
        file=SECURITY,
        old="            _require_json(request)\n",
        new="            pass\n",
        tests=f"{GUARD}::test_only_json_changes_anything",
    ),
    Mutation(
        name="serving: a chunked body has no limit",
        file=SECURITY,
        old="        if len(body) > LIMIT:  #",
        new="        if len(body) > 100 * LIMIT:  #",
        tests=f"{GUARD}::test_long_bodies_are_refused_announced_or_not",
    ),
    Mutation(
        name="serving: any token will do in the address",
        file=SECURITY,
        old="        if not secrets.compare_digest(given.encode(), self.token):",
        new="        if not self.token.startswith(given.encode()):",
        tests=f"{GUARD}::test_wrong_credentials_are_none",
    ),
    Mutation(
        name="serving: an error shows what it says",
        file=SECURITY,
        old='message = f"an error inside the server; its log has the details under {number}"',
        new="import traceback; message = traceback.format_exc() + number",
        tests=f"{GUARD}::test_an_error_inside_shows_a_number_and_no_more",
    ),
    Mutation(
        name="serving: scripts from anywhere",
        file=SECURITY,
        old="script-src 'self'",
        new="script-src 'self' 'unsafe-inline'",
        tests=f"{GUARD}::test_the_policy_allows_nothing_from_elsewhere",
    ),
    Mutation(
        name="serving: the end of a reply comes before the answer is on disk",
        file=SERVICE,
        old="            with self.store.write() as conn:\n",
        new='            ticket.emit(Kept(exchange, "stop" if ticket.stopped_by is not None else reason))\n'
        "            with self.store.write() as conn:\n",
        tests=f"{API}::test_a_reply_waits_for_the_disk_and_nothing_else_does",
    ),
    Mutation(
        name="serving: a request is answered by whatever version is loaded",
        file=SERVICE,
        old="        lane = self._lanes.enter(record)\n",
        new="        lane = self._lanes.enter(next((lane.record for lane in self._lanes.all()), record))\n",
        tests="tests/serving/test_promotions.py::test_streams_during_promotions_each_get_their_version_s_answer",
    ),
    Mutation(
        name="serving: the version in production is read once",
        file=SERVICE,
        old="        if alias in (PRODUCTION, self.project):\n",
        new="        if alias in (PRODUCTION, self.project):\n"
        "            if self._lanes.all():\n"
        "                return self._lanes.all()[-1].record\n",
        tests="tests/serving/test_promotions.py::test_a_promotion_by_another_process_is_seen_at_the_next_request",
    ),
    Mutation(
        name="serving: an answer that was broken off counts as released",
        file=SERVICE,
        old='ticket, "length", "rejected"',
        new='ticket, "length", "released"',
        tests=f"{ANSWERS}::test_a_client_that_leaves_frees_its_place_and_what_was_said_is_not_released",
    ),
    Mutation(
        name="serving: a client that hangs up is answered to the end",
        file="src/burnish/serving/openai.py",
        old="        finally:\n            self.answer.close()",
        new="        finally:\n            pass",
        tests=f"{API}::test_a_client_that_hangs_up_ends_its_answer",
    ),
    Mutation(
        name="serving: a client that hangs up cancels the loading for all",
        file=SERVICE,
        old="await asyncio.shield(asyncio.wrap_future(lane.loaded))",
        new="await asyncio.wrap_future(lane.loaded)",
        tests=f"{ANSWERS}::test_a_client_that_leaves_while_a_version_loads_does_not_stop_the_others",
    ),
    Mutation(
        name="serving: a version is dropped while it answers",
        file="src/burnish/serving/lanes.py",
        old="if not lane.users and lane.loaded.done()]",
        new="if lane.loaded.done()]",
        tests=f"{ANSWERS}::test_only_so_many_versions_stay_loaded_and_none_that_answers_is_dropped",
    ),
    Mutation(
        name="serving: ids are made from the text again",
        file="src/burnish/serving/ticket.py",
        old="answer_ids=tuple(self.ids),",
        new="answer_ids=tuple(self.renderer.answer(self.text)),",
        tests=f"{ANSWERS}::test_ids_and_logprobs_are_kept_as_they_were_sampled",
    ),
    Mutation(
        name="serving: half a character is shown",
        file="src/burnish/serving/ticket.py",
        old="whole = self.text.rstrip(HALF)",
        new="whole = self.text",
        tests="tests/serving/test_ticket.py::test_only_whole_characters_are_shown",
    ),
    Mutation(
        name="serving: what is not supported is ignored",
        file="src/burnish/serving/request.py",
        old='model_config = ConfigDict(extra="forbid", strict=True)',
        new='model_config = ConfigDict(extra="ignore", strict=True)',
        tests=f"{API}::test_what_is_not_built_is_refused_in_openai_s_error_object",
    ),
    Mutation(
        name="serving: HTTP promotes past the registry's no",
        file="src/burnish/serving/problem.py",
        old='        status, code = 409, "refused"',
        new='        status, code = 200, "refused"',
        tests="tests/serving/test_promotions.py::test_a_version_without_a_passing_verdict_is_refused_through_http",
    ),
    Mutation(
        name="monitoring: simulated votes are pooled with people's",
        file="src/burnish/monitoring/summary.py",
        old="if vote.source == source and version in",
        new="if version in",
        tests="tests/monitoring/test_summary.py::test_votes_are_told_apart_by_source",
    ),
]
