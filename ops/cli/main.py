"""The `relevance` command line. One file a command; this one gathers them and words the errors."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from clickhouse_connect.driver.exceptions import ClickHouseError
from kafka.errors import KafkaError

from ops.cli import (
    dead_letters,
    demo,
    doctor,
    down,
    experiment,
    features,
    replay,
    score,
    serve,
    settings,
    status,
    students,
    teacher,
    up,
)
from ops.cli.context import CommandError, Context, printable
from ops.endpoints import NotRunningError
from ops.settings import SettingsError
from ops.stack.embedded_broker import BrokerSetupError
from ops.stack.local_stack import StartError, StoppedError
from ops.stack.run_lock import AlreadyRunningError
from ops.stack.supervision import SupervisorError

#: What can go wrong without being a fault of the program: told in a line, not in a traceback.
EXPECTED = (
    AlreadyRunningError,
    BrokerSetupError,
    ClickHouseError,
    CommandError,
    KafkaError,
    NotRunningError,
    OSError,
    SettingsError,
    StartError,
    SupervisorError,
)
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Settings: the environment (RELEVANCE_*) over relevance.toml; `relevance settings` lists them.",
)
@click.option(
    "--run-dir", type=click.Path(path_type=Path), help="Where state, logs and addresses lie [.relevance]."
)
@click.option("--debug", is_flag=True, help="Show tracebacks and the libraries' logs.")
@click.version_option(package_name="relevance-loop", prog_name="relevance")
@click.pass_context
def cli(context: click.Context, run_dir: Path | None, debug: bool) -> None:
    """Relevance Loop: search and ads relevance, kept fresh by live traffic.

    \b
    relevance demo      start everything with simulated traffic and watch two arms part
    relevance up        start the local stack
    relevance doctor    check every part and say what to mend
    """
    context.obj = Context(run_dir=run_dir, debug=debug)
    context.obj.set_up_logging()


for command in (
    up.up,
    down.down,
    demo.demo,
    status.status,
    replay.replay,
    dead_letters.dead_letters,
    experiment.experiment,
    doctor.doctor,
    settings.settings,
    teacher.teacher,
    serve.serve,
    score.score,
    students.students,
    features.features,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    debug = "--debug" in sys.argv
    try:
        code = cli.main(prog_name="relevance", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt, StoppedError):
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has heard enough.
        sys.stderr.close()
        sys.exit(EXIT_FAILED)
    except EXPECTED as error:
        if debug:
            raise
        lines = str(error).splitlines() or [type(error).__name__]
        click.echo("relevance: " + "\n".join(printable(line) for line in lines), err=True)
        sys.exit(EXIT_FAILED)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
