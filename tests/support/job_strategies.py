"""Hypothesis strategies for the messages of jobs."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from protocol import job_messages as jm
from protocol import operator_job_messages as ojm
from protocol.messages import REASON_CHARS_MAX
from protocol.os_messages import OsJob
from tests.support import os_strategies
from tests.support.strategies import nodes

_ids = os_strategies.STRATEGIES[OsJob].map(lambda job: job.id)
_counts = st.integers(0, 2**63 - 1)
_epochs = st.integers(1, 2**63)
_moments = st.none() | os_strategies.seconds
_texts = st.text(max_size=40)
_progress = st.builds(jm.JobProgress, percent=st.none() | st.floats(0, 100), text=_texts)
_order = st.builds(jm.JobOrder, job=os_strategies.STRATEGIES[OsJob], is_cancelled=st.booleans())
_state = st.builds(
    jm.JobState,
    id=_ids,
    status=st.sampled_from(["queued", "running", *jm.ENDED]),
    exit_code=st.none() | st.integers(0, 255),
    started=_moments,
    ended=_moments,
    reason=st.text(max_size=REASON_CHARS_MAX),
    progress=st.none() | _progress,
    log_end=_counts,
    script=st.none() | st.sampled_from(["", "verify", "create"]),
)


def _board(order: jm.JobOrder) -> jm.JobBoard:
    other = replace(order, job=replace(order.job, id=jm.job_id(f"other-{order.job.id}"[:64])))
    return jm.JobBoard(node=order.job.node, epoch=order.job.epoch, serial=7, orders=(order, other))


_info = st.builds(
    ojm.JobInfo,
    id=_ids,
    node=nodes,
    instance=_texts,
    action=st.sampled_from(["create", "verify"]),
    os=_texts,
    status=st.sampled_from(["queued", "running", *jm.ENDED]),
    exit_code=st.none() | st.integers(0, 255),
    requested=os_strategies.seconds,
    started=_moments,
    ended=_moments,
    reason=_texts,
    progress=st.none() | _progress,
    is_cancelled=st.booleans(),
    log_end=_counts,
)

STRATEGIES: dict[type, st.SearchStrategy[Any]] = {
    jm.JobOrder: _order,
    jm.JobBoard: _order.map(_board),
    jm.JobProgress: _progress,
    jm.JobState: _state,
    jm.JobReport: st.builds(
        jm.JobReport, node=nodes, epoch=_epochs, serial=_counts, states=st.lists(_state, max_size=3).map(tuple)
    ),
    jm.JobLogWanted: st.builds(jm.JobLogWanted, id=_ids, offset=_counts),
    jm.JobLogPart: st.tuples(_ids, st.lists(_counts, min_size=2, max_size=2).map(sorted), st.binary(max_size=50)).map(
        lambda drawn: jm.JobLogPart(id=drawn[0], begin=drawn[1][0], end=drawn[1][1], text=drawn[2])
    ),
    ojm.JobInfo: _info,
    ojm.JobInfos: st.builds(ojm.JobInfos, jobs=st.lists(_info, max_size=3).map(tuple)),
    ojm.JobNews: st.builds(
        ojm.JobNews,
        job=_info,
        revision=_counts,
        text=st.binary(max_size=50),
        offset=_counts,
        has_more=st.booleans(),
    ),
}
