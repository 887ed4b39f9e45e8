using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Json;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Client.Commands;

/// <summary>Commands that ask something of a submitted experiment or of one of its trials.</summary>
internal static class ControlCommands
{
    public static Command Pause(ClientContext context) =>
        Create(context, ControlVerb.Pause, "pause", "Let an experiment, or one trial, rest after the step in hand; 'adpm resume' goes on from there.", trials: true);

    public static Command Resume(ClientContext context) =>
        Create(context, ControlVerb.Resume, "resume", "Go on with an experiment or a trial that was paused.", trials: true);

    public static Command Cancel(ClientContext context) =>
        Create(context, ControlVerb.Cancel, "cancel", "End an experiment, or one trial, after the step in hand. What was committed is kept; 'adpm retry' goes on from it.", trials: true);

    public static Command Retry(ClientContext context) =>
        Create(context, ControlVerb.Retry, "retry", "Go on with all trials that failed or were cancelled, or with one, each from its last committed step.", trials: true);

    public static Command Edit(ClientContext context)
    {
        var set = new Option<string[]>("--set")
        {
            Description = "Set maxTrials, maxConcurrentTrials, a part of budget, objective.target, or a narrower parameters.NAME.min, .max or .values, such as maxTrials=40. Repeatable.", HelpName = "path=value", Arity = ArgumentArity.OneOrMore, Required = true,
        };
        return Create(context, ControlVerb.Edit, "edit", "Change the search of an experiment for the trials that have not begun: more of them, more or fewer at a time, a narrower space.", trials: false, set);
    }

    private static Command Create(ClientContext context, ControlVerb verb, string name, string description, bool trials, Option<string[]>? set = null)
    {
        var command = new Command(name, description);
        var id = trials
            ? TrialName.Argument(context)
            : SharedOptions.ExperimentId(context);
        command.Arguments.Add(id);
        if (set is not null) command.Options.Add(set);
        var target = new TargetOptions(command);
        var json = SharedOptions.Json();
        command.Options.Add(json);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var (text, trial) = trials ? TrialName.Parse(parsed.GetRequiredValue(id)) : (parsed.GetRequiredValue(id), null);
            var settings = set is null ? [] : parsed.GetRequiredValue(set).Select(SpecFile.Setting).ToList();
            var (cluster, where) = await target.ConnectAsync(parsed, context, cancellationToken);
            await using (cluster)
            {
                var experiment = (await ExperimentLookup.FindAsync(cluster, text, cancellationToken)).Summary.Id;
                var receipt = await cluster.ControlAsync(experiment, new ExperimentControl { Verb = verb, Trial = trial, Settings = settings }, cancellationToken);
                if (parsed.GetValue(json))
                    context.Terminal.WriteRaw(ClientJson.Text(new ControlDocument(experiment, trial, name, receipt.Changed, receipt.Message)));
                else
                    context.Terminal.WriteRaw($"{experiment}: {receipt.Message}");
                if (receipt.Changed && verb is ControlVerb.Resume or ControlVerb.Retry or ControlVerb.Edit)
                    context.Terminal.Note($"Follow it with: adpm watch {Spectre.Console.Markup.Escape(experiment + where.Options)}");
                return ExitCodes.Ok;
            }
        });
        return command;
    }
}
