"""What measures the figures of the rules: ``collect_figures`` of each room."""

from services.costs.figures import collect_figures as collect_costs
from services.jobs.tick import COLLECTORS as OF_JOBS

COLLECTORS = (*OF_JOBS, collect_costs)
