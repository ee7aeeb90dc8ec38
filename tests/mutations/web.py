"""Bugs of the pages: text that comes alive, votes that are pooled, lost or doubled, figures that are smoothed."""

from __future__ import annotations

from mutations.case import Mutation

WEB = "src/burnish/web"
RUNS = "src/burnish/monitoring/runs.py"
PAGES = "tests/web/test_pages.py"
BROWSER = "tests/web/test_browser.py"

MUTATIONS = [
    Mutation(
        name="web: marks are counted in UTF-16 units",
        file="src/burnish/web/static/mark.js",
        old="const characters = (units) => [...item.answer.slice(0, units)].length;",
        new="const characters = (units) => units;",
        tests="tests/web/test_browser.py::test_a_selected_piece_is_marked_stored_and_taken_back",
    ),
    Mutation(
        "pages render text as HTML",
        f"{WEB}/pages.py",
        "autoescape=True",
        "autoescape=False",
        f"{PAGES}::test_evil_text_is_inert_in_what_the_server_renders",
    ),
    Mutation(
        "the chat renders an answer as HTML",
        f"{WEB}/static/chat.js",
        "said.textContent = answer;",
        "said.innerHTML = answer;",
        f"{BROWSER}::test_evil_text_in_question_and_answer_stays_text",
    ),
    Mutation(
        "the comparison renders answers as HTML",
        f"{WEB}/static/compare.js",
        "sides[side].textContent = item[side];",
        "sides[side].innerHTML = item[side];",
        f"{BROWSER}::test_the_comparison_is_blind_and_its_text_inert",
    ),
    Mutation(
        "the comparison is not blind",
        f"{WEB}/comparing.py",
        '"left": offer.left,',
        '"left": offer.left, "campaign": offer.campaign,',
        f"{PAGES}::test_the_next_pair_is_blind_and_counts",
    ),
    Mutation(
        "simulated votes count as people's",
        f"{WEB}/circle.py",
        "if vote.source == source",
        "if vote.source",
        f"{PAGES}::test_votes_of_people_and_simulated_ones_stay_apart",
    ),
    Mutation(
        "what the reward foresaw pools people's and simulated votes",
        f"{WEB}/comparing.py",
        'kinds=["compare"], sources=["human"]',
        'kinds=["compare"]',
        f"{PAGES}::test_what_the_reward_model_foresaw_is_counted_for_people_alone",
    ),
    Mutation(
        "a vote sent again gets a new key",
        f"{WEB}/static/chat.js",
        "if (this.pending?.same !== same)",
        "if (same)",
        f"{BROWSER}::test_a_vote_whose_reply_was_lost_is_counted_once",
    ),
    Mutation(
        "a vote is sent under another rater than the pair was drawn for",
        f"{WEB}/static/rater.js",
        'if (changed && again) document.dispatchEvent(new CustomEvent("rater"));',
        "",
        f"{BROWSER}::test_another_rater_gets_a_draw_of_their_own",
    ),
    Mutation(
        "the chart draws over what is not finite",
        f"{WEB}/static/charts.js",
        "        run = 0;\n",
        "",
        f"{BROWSER}::test_charts_are_drawn_live_and_mark_what_is_not_finite",
    ),
    Mutation(
        "a run of another project is shown",
        RUNS,
        "if name != project for record",
        'if name != project and name == "" for record',
        f"{PAGES}::test_another_project_of_the_store_stays_out",
    ),
    Mutation(
        "a second run is drawn on updates of its own",
        f"{WEB}/static/charts.js",
        "const ends = this.ends;",
        "const ends = [this.steps[0], this.steps.at(-1)];",
        f"{BROWSER}::test_runs_are_drawn_on_the_same_updates_and_told_apart",
    ),
    Mutation(
        "runs are told apart by colour alone",
        f"{WEB}/static/burnish.css",
        "stroke-dasharray: var(--dash);",
        "",
        f"{BROWSER}::test_runs_are_drawn_on_the_same_updates_and_told_apart",
    ),
    Mutation(
        "what a resumed run logged again is drawn twice",
        f"{WEB}/static/run.js",
        "this.updates.set(line.step, ",
        "this.updates.set(`${this.updates.size}`, ",
        f"{BROWSER}::test_an_update_that_was_logged_again_is_drawn_once",
    ),
    Mutation(
        "a look at held-out rows counts as an update",
        RUNS,
        "for line in lines if not all(map(LOOKED.match, line))",
        "for line in lines",
        f"{BROWSER}::test_an_update_that_was_logged_again_is_drawn_once",
    ),
    Mutation(
        "the name of a figure is rendered as HTML",
        f"{WEB}/static/charts.js",
        "  const made = document.createElement(name);\n  if (className) made.className = className;\n"
        "  if (text !== undefined) made.textContent = text;",
        "  const made = document.createElement(name);\n  if (className) made.className = className;\n"
        "  if (text !== undefined) made.innerHTML = text;",
        f"{BROWSER}::test_evil_names_of_runs_and_figures_stay_text",
    ),
]
