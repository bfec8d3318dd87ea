"""What keeps a project tidy: products and raw files held against their checksums, superseded products thrown away."""

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from ccdflow.archive.registry.events import forget_events
from ccdflow.archive.store import FileCheck
from ccdflow.flows.forms import form
from ccdflow.flows.nightly import without_heartbeat
from ccdflow.flows.stages import run_name
from ccdflow.tasks.housekeeping import forget_records, refuse_amounts, throw_away, waste
from ccdflow.tasks.keeping.audit import audit, repair
from ccdflow.tasks.keeping.leftovers import leftovers, take_away, told
from ccdflow.tasks.pages.markdown import LISTED_ROWS, plain, shortened
from ccdflow.tasks.rawfiles.copies import compare_known
from ccdflow.tasks.rawfiles.rawchecks import RawCheck, check_raws
from ccdflow.tasks.workspace import open_workspace


@flow(name="housekeeping", flow_run_name=run_name("housekeeping"))
@form
def housekeeping(
    project: str,
    keep_days: float | None = None,
    most_gigabytes: float | None = None,
    raw_gigabytes: float = 20.0,
) -> int:
    """Verify all products and some raw files; where asked, delete superseded products, never what is still needed.

    Products that are gone or damaged are made again by the next run, and those that are back count again. Jobs that
    wait though nothing asks for them any more are taken away.

    Parameters
    ----------
    project : str
        Directory of the project.
    keep_days : float, optional
        Superseded products older than this are deleted; without it and `most_gigabytes`, none is.
    most_gigabytes : float, optional
        Of superseded products no more than this is kept, the newest.
    raw_gigabytes : float
        So much of the raw files is read, those first that nobody has looked at for longest; 0 for none.

    Returns
    -------
    int
        How many files are missing or damaged.

    Raises
    ------
    StoreAwayError
        If the store, or much of it, is not there. Then nothing is changed.
    ValueError
        If an amount is below 0, or no number.
    """
    refuse_amounts(keep_days=keep_days, most_gigabytes=most_gigabytes, raw_gigabytes=raw_gigabytes)
    space = open_workspace(project)
    with without_heartbeat():
        # Files that dead workers left half written go first: nobody will finish them.
        space.claim_store()
        space.recover()
        found = audit(space)
        repair(space, found)
        damaged: list[FileCheck | RawCheck] = [*found.problems]
        looks = list(check_raws(space, raw_gigabytes * 1e9))
        damaged += [look for look in looks if look.state != "ok"]
        # Where a disk is away, all of them: neither log nor page grows with the store.
        listed = [f"{verdict.path}: {verdict.reason}" for verdict in damaged[:LISTED_ROWS]]
        if more := len(damaged) - len(listed):
            listed.append(f"... and {more} more; 'ccdflow verify' and 'ccdflow verify --raws' tell them all")
        for line in listed:
            get_run_logger().error(shortened(line))
        for line in compare_known(space):
            get_run_logger().warning(line)
        gone = told(take_away(space, leftovers(space)))
        for line in gone:
            get_run_logger().info(shortened(line))
        while space.registry.write(forget_events):
            pass
        forget_records(space)
        freed = 0
        if keep_days is not None or most_gigabytes is not None:
            most = None if most_gigabytes is None else most_gigabytes * 1e9
            freed = throw_away(space, waste(space, days=keep_days or 0.0, most_bytes=most))
        lines = [f"- {plain(shortened(line))}" for line in listed]
        lines = lines or ["All products are intact."]
        lines += [f"- {plain(shortened(line))}" for line in gone]
        freed_gb = f"{len(looks)} raw files looked at, {freed / 1e9:.2f} GB freed."
        text = "\n".join(["# Housekeeping", "", *lines, "", freed_gb])
        create_markdown_artifact(text, key="housekeeping", description=plain(f"Housekeeping of {project}"))
    return len(damaged)
