using System.Text.Json.Nodes;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Cluster.Tests.Observability;

/// <summary>An experiment on two silos is one trace, and the log names it.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class TraceTests
{
    [Fact]
    public async Task Run_IsOneTrace_FromTheSubmissionToTheCommit_AcrossSilos()
    {
        await using var receiver = await SpanReceiver.StartAsync();
        await using var cluster = await RealCluster.StartAsync(0);
        await cluster.AddWithAsync(
            [$"--Telemetry:OtlpEndpoint={receiver.Endpoint}", "--Telemetry:Logs=json", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_BSP_SCHEDULE_DELAY=100"], "silo-0", "silo-1");
        // Both silos must compute: more shards than one takes.
        var spec = DigitsSpecs.Small with { Training = DigitsSpecs.Small.Training with { Steps = 2, Shards = 8 }, HeldOut = null };
        var snapshot = await cluster.RunAsync("traced", spec);
        Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason);
        await RealCluster.RetryAsync(() =>
        {
            Assert.Contains(receiver.Spans, span => span.Name == "trial");
            // A shard that is slow may be computed twice.
            Assert.True(receiver.Spans.Count(span => Path(receiver.Spans, span) == "submit/trial/step/shard/compute") >= 16);
            return Task.CompletedTask;
        });

        var spans = receiver.Spans;
        var submit = Assert.Single(spans, span => span.Name == "submit");
        var ours = spans.Where(span => span.Name is "submit" or "trial" or "step" or "shard" or "compute" or "reduce" or "commit").ToList();
        Assert.All(ours, span => Assert.Equal(submit.Trace, span.Trace));
        Assert.All(spans.Where(span => span.Name is "reduce" or "commit" && Path(spans, span).Contains("step", StringComparison.Ordinal)), span => Assert.StartsWith("submit/trial/step/", Path(spans, span), StringComparison.Ordinal));
        Assert.Contains(spans, span => Path(spans, span) == "submit/trial/step/reduce");
        Assert.Contains(spans, span => Path(spans, span) == "submit/trial/step/commit");
        var computed = spans.Where(span => Path(spans, span) == "submit/trial/step/shard/compute").ToList();
        Assert.Equal(["silo-0", "silo-1"], computed.Select(span => span.Silo).Distinct().Order());

        // The same ids stand in the log of whoever had something to say.
        Assert.Contains(cluster.Silos, silo => silo.Log.Split('\n').Where(line => line.StartsWith('{'))
            .Any(line => JsonNode.Parse(line)!["Scopes"] is JsonArray scopes && scopes.Any(scope => scope is JsonObject && (string?)scope["TraceId"] == submit.Trace)));
    }

    /// <summary>Our spans from the root on; Orleans' own, between them, are left out.</summary>
    private static string Path(IReadOnlyList<Span> spans, Span span)
    {
        var parent = spans.FirstOrDefault(other => other.Id == span.Parent);
        var ours = span.Name.Contains('/', StringComparison.Ordinal) || span.Name.Contains('.', StringComparison.Ordinal) ? "" : "/" + span.Name;
        return ((parent is null ? "" : Path(spans, parent)) + ours).TrimStart('/');
    }
}
