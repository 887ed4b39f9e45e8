using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Connection;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.LocalCluster;
using AdjointDpm.Client.Progress;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Client.Commands;

internal static class CheckCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("check", "Prove an experiment's gradient against the unrolled one and finite differences, in float64, without training. Ends with 4 when it does not hold.");
        var file = SharedOptions.SpecFile();
        command.Arguments.Add(file);
        var samples = new Option<int?>("--samples") { Description = "Samples to prove it on. Default: gradient.check.samples of the spec.", HelpName = "n" }.Within(1, 1024);
        var steps = new Option<int?>("--steps") { Description = "Steps of the sampler in the proof. Default: gradient.check.steps of the spec, else sample.steps.", HelpName = "n" }.Within(1, 1000);
        var set = SharedOptions.Set();
        var json = SharedOptions.Json();
        foreach (var option in new Option[] { samples, steps, set, json }) command.Options.Add(option);
        var target = new TargetOptions(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var (_, submission, spec) = await SpecFile.ReadResolvedAsync(parsed.GetRequiredValue(file), parsed.GetValue(set) ?? [], context, pathsOfSilos: false, cancellationToken);
            if (spec.Parameters.Count > 0)
                context.Terminal.Note($"The search over {Spectre.Console.Markup.Escape(string.Join(", ", spec.Parameters.Keys))} is left out. Prove other values with --set.");
            var probe = ProbeOf(spec, parsed.GetValue(samples), parsed.GetValue(steps));
            var text = ExperimentSpecJson.Serialize(probe);
            var sha = ExperimentSpecJson.Sha256(text);
            var name = $"{submission.Name}-check";
            var asked = new Proof(ExperimentDocument.IdOf(name, sha), new ExperimentSubmission(text, sha, name));
            var (ended, proof) = target.Given(parsed, context)
                ? await OnClusterAsync(parsed, asked, cancellationToken)
                : await OnThisMachineAsync(asked, probe, cancellationToken);
            if (proof is null)
                throw new CommandFailure(ExitCodes.Failed, ended.Trials.Select(trial => trial.Reason).FirstOrDefault(reason => reason is not null) ?? ended.Reason ?? "The proof came to no end.");
            if (parsed.GetValue(json)) context.Terminal.WriteRaw(ClientJson.Text(new ProofDocument(ended.Summary.Id, proof)));
            else ProofView.Show(context.Terminal, proof);
            return proof.Passed ? ExitCodes.Ok : ExitCodes.NotProven;
        });
        return command;

        async Task<(ExperimentSnapshot Ended, GradientProofReport? Proof)> OnClusterAsync(ParseResult parsed, Proof asked, CancellationToken cancellationToken)
        {
            var (cluster, _) = await target.ConnectAsync(parsed, context, cancellationToken);
            await using (cluster)
                return await AskAsync(cluster, asked, cancellationToken);
        }

        async Task<(ExperimentSnapshot Ended, GradientProofReport? Proof)> OnThisMachineAsync(Proof asked, ExperimentSpec spec, CancellationToken cancellationToken)
        {
            var folder = Directory.CreateTempSubdirectory("adpm-check-");
            try
            {
                var silos = context.StartLocal(LocalClusterOptions.OneSilo(context, folder.FullName, spec));
                using var kill = context.Interruptions.OnSecond(silos.Kill);
                await using (silos)
                {
                    await silos.StartAsync(cancellationToken);
                    await using var cluster = await context.Connect(ClusterTarget.Folder(folder.FullName, folder.FullName), cancellationToken);
                    var answer = AskAsync(cluster, asked, cancellationToken);
                    if (await Task.WhenAny(answer, silos.Lost) != answer) await silos.Lost;
                    return await answer;
                }
            }
            finally
            {
                folder.Delete(recursive: true);
            }
        }

        async Task<(ExperimentSnapshot Ended, GradientProofReport? Proof)> AskAsync(IClusterConnection cluster, Proof asked, CancellationToken cancellationToken)
        {
            await cluster.SubmitAsync(asked.Id, asked.Submission, cancellationToken);
            await using var quiet = new NoticesOnly(context.Terminal);
            var ended = await new Follower(cluster, quiet, context.Time).ToEndAsync(asked.Id, 0, cancellationToken);
            return (ended, await cluster.GetGradientProofAsync(asked.Id, 0, cancellationToken));
        }
    }

    /// <summary>The experiment that is the proof and nothing else.</summary>
    private static ExperimentSpec ProbeOf(ExperimentSpec spec, int? samples, int? steps) => SpecFile.WithoutSearch(spec) with
    {
        Gradient = spec.Gradient with { Check = spec.Gradient.Check with { Mode = ProofMode.Only, Samples = samples ?? spec.Gradient.Check.Samples, Steps = steps ?? spec.Gradient.Check.Steps } },
    };

    private sealed record Proof(string Id, ExperimentSubmission Submission);
}
