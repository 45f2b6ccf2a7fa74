"""Queue ``reports``: the night's long jobs."""

from services.jobs.audit_jobs import anchor_heads, archive_events, verify_chains
from services.jobs.effect import JobEffect
from tasks.runner import work_task

audit_verify = work_task("audit_verify", JobEffect(verify_chains))
audit_anchor = work_task("audit_anchor", JobEffect(anchor_heads))
audit_archive = work_task("audit_archive", JobEffect(archive_events))
