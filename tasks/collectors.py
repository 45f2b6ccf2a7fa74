"""What measures the figures of the rules: ``collect_figures`` of each room."""

from services.alerts.own_figures import collect_figures as collect_of_ledger
from services.costs.figures import collect_figures as collect_costs

COLLECTORS = (collect_of_ledger, collect_costs)
