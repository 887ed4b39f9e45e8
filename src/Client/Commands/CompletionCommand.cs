using System.CommandLine;
using AdjointDpm.Client.CommandLine;

namespace AdjointDpm.Client.Commands;

internal static class CompletionCommand
{
    private static readonly Dictionary<string, string> Scripts = new(StringComparer.Ordinal)
    {
        ["bash"] = """
            # In ~/.bashrc: source <(adpm completion bash)
            _adpm() {
              local IFS=$'\n'
              COMPREPLY=($(compgen -W "$(adpm "[suggest:${COMP_POINT}]" "${COMP_LINE}" 2>/dev/null)" -- "${COMP_WORDS[COMP_CWORD]}"))
            }
            complete -o default -F _adpm adpm
            """,
        ["zsh"] = """
            # In ~/.zshrc, after compinit: source <(adpm completion zsh)
            _adpm() {
              local -a found=("${(@f)$(adpm "[suggest:${#BUFFER}]" "$BUFFER" 2>/dev/null)}")
              compadd -- "${found[@]}"
              (( ${#found[1]} )) || _files
            }
            compdef _adpm adpm
            """,
        ["fish"] = """
            # In ~/.config/fish/config.fish: adpm completion fish | source
            complete -c adpm -a '(set -l line (commandline -cp); adpm "[suggest:"(string length -- $line)"]" "$line" 2>/dev/null)'
            """,
        ["pwsh"] = """
            # In $PROFILE: adpm completion pwsh | Out-String | Invoke-Expression
            Register-ArgumentCompleter -Native -CommandName adpm -ScriptBlock {
              param($word, $line, $position)
              adpm "[suggest:$position]" "$line" 2>$null | Where-Object { $_ -like "$word*" } | ForEach-Object { [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_) }
            }
            """,
    };

    public static Command Create(ClientContext context)
    {
        var command = new Command("completion", "Print a script by which a shell completes commands and options. Its first line says where it goes.");
        var shell = new Argument<string>("SHELL") { Description = string.Join(", ", Scripts.Keys) + "." };
        shell.AcceptOnlyFromAmong([.. Scripts.Keys]);
        command.Arguments.Add(shell);
        command.SetAction(parsed =>
        {
            context.Terminal.WriteRaw(Scripts[parsed.GetRequiredValue(shell)]);
            return ExitCodes.Ok;
        });
        return command;
    }
}
