using System.CommandLine;
using System.Globalization;
using AdjointDpm.Client.CommandLine;

namespace AdjointDpm.Client.Commands;

/// <summary>An experiment, or one of its trials, as people name it: ID or ID/TRIAL.</summary>
internal static class TrialName
{
    public static Argument<string> Argument(ClientContext context, string name = "ID")
    {
        var argument = new Argument<string>(name)
        {
            Description = "Id of the experiment, its name, or the beginning of either when that is clear; for one trial ID/TRIAL, such as lr-sweep-1a2b3c4d/3.", HelpName = $"{name}[/TRIAL]",
        };
        argument.CompletionSources.Add(completion => IdCompletions.Of(context, completion, trials: true));
        return argument;
    }

    /// <exception cref="CommandFailure">After the slash stands no number.</exception>
    public static (string Id, int? Trial) Parse(string text)
    {
        var slash = text.LastIndexOf('/');
        if (slash < 0) return (text, null);
        return int.TryParse(text[(slash + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out var trial) && slash > 0
            ? (text[..slash], trial)
            : throw new CommandFailure(ExitCodes.Invalid, $"'{text}' names no trial.", "Write ID/TRIAL, such as lr-sweep-1a2b3c4d/3; trials are counted from 0.");
    }
}
