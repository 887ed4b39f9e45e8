using System.Text.Json.Nodes;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Trials;

namespace AdjointDpm.Grains.Tests.Cluster;

/// <summary>What is observed of a trial for people: pictures on the way, what it cost, its results from afar.</summary>
public sealed class PicturesTests
{
    [Fact]
    public async Task Pictures_AreDrawnBeforeOnTheWayAndAfter_AndChangeNoBit()
    {
        await using var cluster = await SmallCluster.StartAsync();
        var (plain, _) = await cluster.RunAsync("plain", TestSpecs.Small);
        var (drawn, _) = await cluster.RunAsync("drawn", TestSpecs.Small with { Checkpoint = new CheckpointSpec { Pictures = 3 } });
        Assert.True(drawn.Summary.State == RunState.Succeeded, drawn.Reason);
        Assert.Equal(plain.Trials[0].ParametersSha256, drawn.Trials[0].ParametersSha256);
        Assert.Equal(plain.Trials[0].Metrics, drawn.Trials[0].Metrics);

        var pictures = await StepPictures.ListAsync(new LocalDisk(), Path.Combine(cluster.Folder, "trials", "drawn", "0"));
        Assert.Equal([0, 3, 4], pictures.Select(picture => picture.Step));
        Assert.Equal(3, pictures.DistinctBy(picture => picture.Sha256).Count());
        foreach (var picture in pictures)
        {
            var bytes = (await StepPictures.ReadAsync(new LocalDisk(), Path.Combine(cluster.Folder, "trials", "drawn", "0"), picture))!;
            Assert.Equal(picture.Sha256, TensorReference.HashOf(bytes));
            // Among the results by step.
            Assert.Equal(bytes, await File.ReadAllBytesAsync(Path.Combine(drawn.Trials[0].ArtifactFolder!, "steps", $"{picture.Step:d6}.png"), TestContext.Current.CancellationToken));
        }
        var steps = await cluster.Experiment("drawn").GetStepsAsync(0, TestContext.Current.CancellationToken);
        Assert.Equal(pictures.Select(picture => (picture.Step, picture.Sha256)), steps.Where(step => step.Profile?.Picture is not null).Select(step => (step.Step, step.Profile!.Picture!)));

        Assert.False(Directory.Exists(Path.Combine(cluster.Folder, "trials", "plain", "0", "profile", "pictures")));
        Assert.False(Directory.Exists(Path.Combine(plain.Trials[0].ArtifactFolder!, "steps")));
    }

    [Theory]
    [InlineData("000003.0123.png"), InlineData("../000003." + Sha + ".png"), InlineData("000003." + Sha + ".png\n"), InlineData("3." + Sha + ".png"), InlineData("000003." + Sha)]
    public void NameOfAPicture_ThatIsNone_IsNotRead(string name) => Assert.Null(StepPictures.Parse(name));

    private const string Sha = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    [Fact]
    public async Task Report_TellsStepsCostTimesAndHardware_OfTheBest()
    {
        await using var cluster = await SmallCluster.StartAsync();
        var spec = TestSpecs.Small with
        {
            HeldOut = new HeldOutSpec { Samples = 5, Every = 2 },
            Parameters = new Dictionary<string, ParameterSpec> { ["optimizer.learningRate"] = new() { Values = ["0.05", "0.01"] } },
            Objective = new ObjectiveSpec { Metric = "heldOut.loss.after" },
        };
        var submission = TestSpecs.Submission(spec) with { Labels = new Dictionary<string, string> { ["team"] = "vision" }, Command = "adpm run x.yaml" };
        await cluster.Experiment("told").SubmitAsync(submission, TestContext.Current.CancellationToken);
        var (snapshot, _) = await cluster.FollowAsync("told");
        Assert.Equal("vision", snapshot.Summary.Labels!["team"]);
        var report = JsonNode.Parse(await File.ReadAllTextAsync(Path.Combine(snapshot.ArtifactFolder, "report.json"), TestContext.Current.CancellationToken))!;
        Assert.Equal(("vision", "adpm run x.yaml"), ((string?)report["labels"]!["team"], (string?)report["command"]));
        Assert.NotEmpty(((string?)report["versions"]!["libtorch"])!);
        foreach (var trial in report["trials"]!.AsArray())
        {
            Assert.Equal([0, 1, 2, 3, 4], trial!["history"]!.AsArray().Select(step => (int)step!["step"]!));
            Assert.Equal([0, 2, 4], trial["history"]!.AsArray().Where(step => step!["profile"]?["heldOut"] is not null).Select(step => (int)step!["step"]!));
            var times = trial["cost"]!["times"]!;
            foreach (var part in new[] { "load", "evaluate", "shards", "save" })
                Assert.True((double)times[part]! > 0, part);
            Assert.Equal(0, (double)times["draw"]!);
            // What adds up at the coordinator is not longer than the trial.
            Assert.True(times.AsObject().Sum(part => (double)part.Value!) <= (double)trial["seconds"]! + 0.001, trial.ToJsonString());
        }
        Assert.Equal(snapshot.Trials[0].Totals!.Samples, (long)report["trials"]![0]!["cost"]!["samples"]!);
    }

    [Fact]
    public async Task Labels_ThatAreTooMany_AreRefused()
    {
        await using var cluster = await SmallCluster.StartAsync(1);
        var many = Enumerable.Range(0, ExperimentSubmission.MostLabels + 1).ToDictionary(i => $"l{i}", i => "x");
        foreach (var labels in new[] { many, new Dictionary<string, string> { ["x"] = new string('y', ExperimentSubmission.MostOfLabel + 1) } })
            await Assert.ThrowsAsync<ArgumentException>(() => cluster.Experiment("many").SubmitAsync(TestSpecs.Submission(TestSpecs.Small) with { Labels = labels }, TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task Results_AreHandedOutInParts_ByTheirContentAlone()
    {
        // More than two parts of parameters.
        await using var cluster = await SmallCluster.StartAsync(1, new EngineScript { Parameters = 600_000 });
        var (snapshot, _) = await cluster.RunAsync("far", TestSpecs.Small with { Training = new TrainingSpec { Steps = 1, Shards = 1, SamplesPerShard = 1 } });
        var (experiment, cancellation) = (cluster.Experiment("far"), TestContext.Current.CancellationToken);
        var files = await experiment.GetFilesAsync(0, cancellation);
        Assert.Contains(files, file => file.Path == "parameters.bin" && file.Length == 2_400_000);
        foreach (var file in files)
        {
            var fetched = new MemoryStream();
            while (fetched.Length < file.Length)
            {
                var part = (await experiment.GetFileAsync(0, file.Sha256, fetched.Length, cancellation))!;
                Assert.Equal(file.Length, part.Length);
                Assert.InRange(part.Bytes.Length, 1, ResultPart.MostBytes);
                fetched.Write(part.Bytes);
            }
            Assert.Equal(await File.ReadAllBytesAsync(Path.Combine(snapshot.Trials[0].ArtifactFolder!, file.Path), cancellation), fetched.ToArray());
        }
        Assert.Equal(await File.ReadAllBytesAsync(Path.Combine(snapshot.ArtifactFolder, "report.json"), cancellation), (await experiment.GetReportAsync(0, cancellation))!.Bytes);
        Assert.Empty((await experiment.GetReportAsync(1 << 30, cancellation))!.Bytes);
        Assert.Null(await experiment.GetFileAsync(0, "report.json", 0, cancellation));
        Assert.Null(await experiment.GetFileAsync(7, files[0].Sha256, 0, cancellation));
        Assert.Empty(await experiment.GetFilesAsync(7, cancellation));
        Assert.Null(await cluster.Experiment("none").GetReportAsync(0, cancellation));
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => experiment.GetFileAsync(0, files[0].Sha256, -1, cancellation));
    }
}
