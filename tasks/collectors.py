"""What the rooms add to each tick of beat: the figures of the rules, and what follows from ended work."""

from services.conversations.figures import collect_figures as collect_conversations
from services.costs.figures import collect_figures as collect_costs
from services.jobs.tick import COLLECTORS as OF_JOBS
from services.outreach.follow import follow_outreach
from services.timesheets.figures import collect_figures as collect_reports
from services.timesheets.follow import follow_reports

COLLECTORS = (*OF_JOBS, collect_costs, collect_conversations, collect_reports)
FOLLOWERS = {"reports": follow_reports, "outreach": follow_outreach}
