"""From a config to results: plan, units, ledger, executors, provenance."""

from geoxai.pipeline.opening import open_run
from geoxai.pipeline.planning import Plan, plan
from geoxai.pipeline.rules import RuleTables, rules
from geoxai.pipeline.running import RunResult, run
from geoxai.pipeline.verification import Verification, verify

__all__ = ["Plan", "RuleTables", "RunResult", "Verification", "open_run", "plan", "rules", "run", "verify"]
