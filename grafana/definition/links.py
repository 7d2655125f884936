"""Where the links in alerts and dashboards lead."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

DASHBOARD_UID = "driftline-drift"
DASHBOARD_SLUG = "driftline-drift"


@dataclass(frozen=True)
class Links:
    """Base addresses of one installation. The defaults, in the committed files, lead nowhere beyond localhost."""

    grafana: str = "http://localhost:3000"
    runbooks: str = "https://example.com/driftline/docs/runbooks"

    def runbook(self, alert: str) -> str:
        return f"{self.runbooks}/{quote(alert)}.md"

    def dashboard(self, **variables: str) -> str:
        """The drift dashboard with `variables` set; their values may be templates."""
        query = "&".join(f"var-{name}={value}" for name, value in variables.items())
        return f"{self.grafana}/d/{DASHBOARD_UID}/{DASHBOARD_SLUG}" + (f"?{query}" if query else "")


def admin(path: str) -> str:
    """`path` on the admin port of the sidecar an alert is about: the address it is scraped at."""
    return f"http://{{{{ $labels.instance }}}}{path}"


def label(name: str) -> str:
    """The template of a label's value, fit for a query string."""
    return f"{{{{ $labels.{name} | urlquery }}}}"
