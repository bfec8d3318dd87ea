"""What a Prefect server is told of ccdflow, and what people have changed of it there since.

Prefect's own `deploy` writes everything anew: a schedule that somebody has switched off is on again, an automation is
deleted and made. So the server is told here, and with it what it was told: what is no longer so has been changed by
somebody, and stays.
"""

import hashlib
import importlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.resources import files
from typing import Any

import yaml
from httpx import HTTPStatusError
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect.events.schemas.automations import AutomationCore
from prefect.utilities.callables import parameter_schema

Fields = dict[str, Any]
"""What the server's API takes or gives, by its names."""
Told = dict[str, list[str]]
"""By field, digests of what the server was told and of what it then said itself, which holds its defaults."""

RECORD = "ccdflow_deployed"
"""Prefect's variable that keeps what was told: with the server's database it is gone, and comes back."""
KEPT = ("schedules", "concurrency", "description", "job_variables", "queue", "tags")
"""Fields of a deployment that people may change in the browser; parameters may be added."""
WORDS = {
    "concurrency": "limit of runs at once",
    "job_variables": "variables of jobs",
    "schedules": "schedule",
}
"""What the fields are called in sentences, where not by their names."""
_SHORT = 8
"""Hexadecimal digits of a digest: a variable holds 5000 characters, and what was not changed by accident differs."""
_VARIABLE = re.compile(r"\{\{ \$(\w+) \}\}")


@dataclass
class Deployed:
    """What deploying has done: names by what became of them, and sentences on what was left as people have it."""

    new: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def shipped_files(variables: Mapping[str, str]) -> tuple[list[Fields], list[Fields]]:
    """Read the deployments and automations that come with ccdflow.

    Parameters
    ----------
    variables : mapping of str to str
        What takes the place of ``{{ $NAME }}``.

    Returns
    -------
    tuple of list
        Deployments, and automations that belong to none of them, as their files have them.
    """
    texts = [
        (files("ccdflow.deployments") / name).read_text() for name in ("prefect.yaml", "automations.yaml")
    ]
    first, second = (
        yaml.safe_load(_VARIABLE.sub(lambda match: variables.get(match[1], match[0]), text)) for text in texts
    )
    return first["deployments"], second["automations"]


class Deploying:
    """Tells a server of deployments and automations, and leaves what people have changed.

    Parameters
    ----------
    client : SyncPrefectClient
        Speaks to the server.
    reset : bool
        Whether what people have changed is made as ccdflow has it.
    wanted : collection of str
        Deployments for whose schedules somebody asks now: their times count, though not whether they are on.
    """

    def __init__(self, client: SyncPrefectClient, *, reset: bool = False, wanted: Sequence[str] = ()) -> None:
        self.client, self.reset, self.wanted = client, reset, wanted
        variable = client.read_variable_by_name(RECORD)
        value = variable.value if variable is not None and isinstance(variable.value, dict) else {}
        self.record: dict[str, Told] = {} if reset else {str(name): told for name, told in value.items()}
        self.result = Deployed()

    def keep_record(self) -> None:
        """Let the server keep what it was told."""
        if self.client.read_variable_by_name(RECORD) is None:
            self.client.create_variable(VariableCreate(name=RECORD, value=self.record))
        else:
            self.client.update_variable(VariableUpdate(name=RECORD, value=self.record))

    # --- deployments --------------------------------------------------------------------------------------

    def deployment(self, written: Fields) -> None:
        """Make a deployment known, or what has changed of it.

        Parameters
        ----------
        written : dict
            As `prefect.yaml` has it.
        """
        name, flow = written["name"], _flow(written["entrypoint"])
        ours = {**_people_s(written), **_ours(written, flow)}
        there = self._there(flow.name, name)
        if there is None:
            flow_id = str(self.client.create_flow_from_name(flow.name))
            self.client.request(
                "POST", "/deployments/", json={**_body(ours), "name": name, "flow_id": flow_id}
            )
            self.result.new.append(name)
        else:
            self._change(name, ours, there)
            self.result.known.append(name)
        now = self._there(flow.name, name)
        assert now is not None
        self._note(name, _people_s(written), now, there)
        for number, trigger in enumerate(written.get("triggers", ()), 1):
            self.automation(_started(trigger, f"{name}__automation_{number}", str(now["id"])))

    def _there(self, flow: str, name: str) -> Fields | None:
        try:
            answer: Fields = self.client.request(
                "GET",
                "/deployments/name/{flow_name}/{deployment_name}",
                path_params={"flow_name": flow, "deployment_name": name},
            ).json()
        except HTTPStatusError as error:
            if error.response.status_code == HTTPStatus.NOT_FOUND:
                return None
            raise
        return answer

    def _change(self, name: str, ours: Fields, there: Fields) -> None:
        """Send of a deployment that is there what people have not changed; its schedules only where they differ."""
        current, told = _current(there), self.record.get(name, {})
        if there.get("paused"):
            self.result.left.append(f"{name}, paused on the server")
        if not self.reset:
            known = ours["parameter_openapi_schema"]["properties"].keys() - ours["parameters"].keys()
            if added := {key: value for key, value in there["parameters"].items() if key in known}:
                ours["parameters"] = {**added, **ours["parameters"]}
                self.result.left.append(f"{name}'s parameters {', '.join(sorted(added))}, set on the server")
            for one in KEPT:
                if one == "schedules" and name in self.wanted:
                    is_on = any(schedule["active"] for schedule in current[one]) or not current[one]
                    ours[one] = [{**schedule, "active": is_on} for schedule in ours[one]]
                elif one not in told:
                    # Of one that an earlier ccdflow, or Prefect's own command, has made.
                    if one == "schedules":
                        self._say_left(name, one, ours.pop(one), current[one])
                elif _digest(current[one]) != told[one][1]:
                    self._say_left(name, one, ours.pop(one), current[one])
                elif _digest(ours[one]) == told[one][0]:
                    del ours[one]
        body = _body(ours, current)
        # Whatever is sent, the server throws the runs away that it has scheduled, and schedules them anew.
        if any(there.get(field) != value for field, value in body.items()):
            place = {"id": there["id"]}
            self.client.request("PATCH", "/deployments/{id}", path_params=place, json=body)

    def _say_left(self, name: str, one: str, ours: Any, current: Any) -> None:
        """Say what is left as somebody has it."""
        what = f"{name}'s {WORDS.get(one, one)}"
        if one != "schedules":
            self.result.left.append(f"{what}, changed on the server")
        elif ours and not current:
            self.result.left.append(f"{what}, deleted on the server")
        elif ours and not any(schedule["active"] for schedule in current):
            self.result.left.append(f"{what}, switched off on the server")
        elif _times(ours) != _times(current):
            would = ", ".join(_times(ours)) or "none"
            self.result.left.append(f"{what}, {', '.join(_times(current))} where ccdflow's would be {would}")

    def _note(self, name: str, ours: Fields, now: Fields, before: Fields | None) -> None:
        """Note what the server was told, and what it makes of that; of what was left, what was told before."""
        told, current = self.record.get(name, {}), _current(now)
        was = None if before is None else _current(before)
        for one in KEPT:
            is_left = was is not None and one in told and _digest(was[one]) != told[one][1]
            is_strange = was is not None and one not in told and one == "schedules"
            if self.reset or name in self.wanted or not (is_left or is_strange):
                told[one] = [_digest(ours[one]), _digest(current[one])]
        self.record[name] = told

    # --- automations --------------------------------------------------------------------------------------

    def automation(self, ours: AutomationCore) -> None:
        """Make an automation, or make it anew where ours has changed and theirs has not.

        Parameters
        ----------
        ours : AutomationCore
            The automation, which is known by its name.
        """
        key, told = f"automation {ours.name}", self.record.get(f"automation {ours.name}", {}).get("all")
        there = [one for one in self.client.read_automations() if one.name == ours.name]
        sent = _digest(ours.model_dump(mode="json"))
        if there and not self.reset:
            current = _digest(_automation_fields(there[0]))
            if not there[0].enabled:
                self.result.left.append(f"the automation {ours.name!r}, switched off on the server")
                return
            if told is None or current != told[1]:
                if told is not None:
                    self.result.left.append(f"the automation {ours.name!r}, changed on the server")
                return
            if sent == told[0]:
                return
        elif told is not None and not self.reset:
            self.result.left.append(f"the automation {ours.name!r}, deleted on the server")
            return
        for old in there:
            self.client.delete_automation(old.id)
        made = self.client.read_automation(self.client.create_automation(ours))
        assert made is not None
        self.record[key] = {"all": [sent, _digest(_automation_fields(made))]}


def _flow(entrypoint: str) -> Any:
    module, _, name = entrypoint.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _ours(written: Fields, flow: Any) -> Fields:
    """What is ccdflow's alone to say of a deployment."""
    # Misspelled parameters would be taken without a word, and the run made without what they ask for.
    schema = {**parameter_schema(flow).model_dump(exclude_unset=True), "additionalProperties": False}
    return {
        "entrypoint": written["entrypoint"],
        "enforce_parameter_schema": True,
        "parameters": written["parameters"],
        "parameter_openapi_schema": schema,
        "pull_steps": [],
    }


def _people_s(written: Fields) -> Fields:
    """What people may change of a deployment, as its file has it."""
    limit = written.get("concurrency_limit") or {}
    return {
        "schedules": [_schedule(schedule) for schedule in written.get("schedules", ())],
        "concurrency": [limit.get("limit"), limit.get("collision_strategy")],
        "description": written["description"],
        "job_variables": written["work_pool"].get("job_variables", {}),
        "parameters": written["parameters"],
        "tags": written["tags"],
        "queue": [written["work_pool"][name] for name in ("name", "work_queue_name")],
    }


def _schedule(written: Fields) -> Fields:
    times = {name: value for name, value in written.items() if name != "interval"}
    if "interval" in written:
        times["interval"] = float(written["interval"])
    return {"active": True, "schedule": {"timezone": "UTC", **times}}


def _current(there: Fields) -> Fields:
    """What people may have changed of a deployment, as the server has it: without ids and times."""
    limit = there.get("global_concurrency_limit") or {}
    options = there.get("concurrency_options") or {}
    return {
        "schedules": [
            {
                name: value
                for name, value in one.items()
                if name not in ("id", "created", "updated", "deployment_id")
            }
            for one in sorted(there["schedules"], key=lambda one: str(one["created"]))
        ],
        "concurrency": [limit.get("limit"), options.get("collision_strategy") if limit else None],
        "description": there["description"],
        "job_variables": there["job_variables"],
        "tags": there["tags"],
        "queue": [there["work_pool_name"], there["work_queue_name"]],
    }


def _body(ours: Fields, current: Fields | None = None) -> Fields:
    """What the server's API takes of a deployment."""
    body = {name: value for name, value in ours.items() if name not in ("concurrency", "queue")}
    if "queue" in ours:
        # Both at once: of a pool alone the server takes its default queue.
        body |= dict(zip(("work_pool_name", "work_queue_name"), ours["queue"], strict=True))
    limit, strategy = ours.get("concurrency", (None, None))
    if limit is not None:
        body |= {"concurrency_limit": limit, "concurrency_options": {"collision_strategy": strategy}}
    elif "concurrency" in ours and current is not None and current["concurrency"][0] is not None:
        body |= {"concurrency_limit": None}
    return body


def _started(trigger: Fields, name: str, deployment: str) -> AutomationCore:
    """The automation that starts a deployment."""
    spec = {key: value for key, value in trigger.items() if key not in ("enabled", "parameters")}
    action: Fields = {"type": "run-deployment", "source": "selected", "deployment_id": deployment}
    action |= {"parameters": trigger.get("parameters"), "job_variables": None}
    return AutomationCore.model_validate(
        {
            "name": name,
            "enabled": trigger.get("enabled", True),
            "trigger": spec,
            "actions": [action],
            "owner_resource": f"prefect.deployment.{deployment}",
        }
    )


def _automation_fields(automation: AutomationCore) -> Fields:
    return AutomationCore.model_validate(automation.model_dump()).model_dump(mode="json")


def _times(schedules: Sequence[Fields]) -> list[str]:
    """When schedules start runs, as their file has it."""
    return [
        one["schedule"].get("cron") or f"every {float(one['schedule'].get('interval') or 0):g} s"
        for one in schedules
    ]


def _digest(value: Any) -> str:
    text = json.dumps(_sorted(value), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_SHORT]


def _sorted(value: Any) -> Any:
    """The same with lists of texts in order: what are sets to Prefect (tags, events) comes in any."""
    if isinstance(value, dict):
        return {name: _sorted(item) for name, item in value.items()}
    if isinstance(value, list):
        return sorted(value) if all(isinstance(item, str) for item in value) else [*map(_sorted, value)]
    return value


def lines(result: Deployed) -> Iterator[str]:
    """Yield what deploying has done, in sentences.

    Parameters
    ----------
    result : Deployed
        What was done.
    """
    yield f"{len(result.new) + len(result.known)} deployments: {len(result.new)} new, {len(result.known)} known"
    for sentence in result.left:
        yield f"left as it is: {sentence}"
    if result.left:
        yield "'ccdflow deploy --reset' makes all of it as ccdflow has it"
