"""Queue ``reports``: the night's, the week's and the month's long jobs."""

from services.closing.digest import send_digest
from services.closing.month_close import close_month
from services.jobs.audit_jobs import anchor_heads, archive_events, verify_chains
from services.jobs.handler import JobHandler
from tasks.runner import work_task

owner_digest = work_task("owner_digest", JobHandler(send_digest))
month_close = work_task("month_close", JobHandler(close_month))
audit_verify = work_task("audit_verify", JobHandler(verify_chains))
audit_anchor = work_task("audit_anchor", JobHandler(anchor_heads))
audit_archive = work_task("audit_archive", JobHandler(archive_events))
