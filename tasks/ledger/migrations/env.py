"""What Alembic runs: the revisions, on the connection and in the transaction of `upgrade`."""

from alembic import context

from tasks.ledger.migrations import TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=TABLE,  # MLflow's or Prefect's own may be in the same database
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
