"""``andon completion``: what a shell needs to complete Andon's commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Examples:
      andon completion bash >> ~/.bashrc
      andon completion zsh  >> ~/.zshrc
      andon completion fish > ~/.config/fish/completions/andon.fish
    """
    from andon.cli import andon

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion is known for {shell}")
    click.echo(found(andon, {}, "andon", "_ANDON_COMPLETE").source())
