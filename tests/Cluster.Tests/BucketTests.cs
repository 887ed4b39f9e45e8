using System.Net;
using System.Security.Cryptography;
using System.Text.Json.Nodes;
using AdjointDpm.Cluster.Tests.Servers;
using AdjointDpm.Grains.Experiments;
using Amazon.Runtime;
using Amazon.S3;
using Amazon.S3.Model;

namespace AdjointDpm.Cluster.Tests;

/// <summary>Results in a bucket of a real server: the files of a run on folders, whatever ends in the middle.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class BucketTests : IDisposable
{
    private const string Secret = "a-secret-that-nobody-may-read";
    private const string Prefix = "team/a";
    private const string Weights = "/trial-0/model/unet/diffusion_pytorch_model.safetensors";

    private static readonly Lazy<Task<Dictionary<string, string>>> Folder = new(async () =>
    {
        await using var cluster = await RealCluster.StartAsync(1);
        var snapshot = await cluster.RunAsync("kept", DigitsSpecs.Small);
        Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason);
        var root = snapshot.ArtifactFolder;
        return Directory.GetFiles(root, "*", SearchOption.AllDirectories).ToDictionary(path => Path.GetRelativePath(root, path), path => Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(path))));
    });

    private readonly string _staging = Directory.CreateTempSubdirectory("adjointdpm-staging-").FullName;

    public void Dispose() => Directory.Delete(_staging, recursive: true);

    [Fact]
    public async Task TwoSilos_FilesAreThoseOfTheFolder_AndTheManifestComesLast()
    {
        await using var server = await S3Server.StartNewAsync();
        await using var gate = await S3Gate.StartAsync(server.Address, Secret);
        gate.TellsChecksums = true;
        await using var cluster = await RealCluster.StartAsync(2, Settings(gate));
        var snapshot = await cluster.RunAsync("kept", DigitsSpecs.Small);
        Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason + cluster.Silos[0].Log);
        Assert.Equal($"s3://results/{Prefix}/experiments/kept", snapshot.ArtifactFolder);
        Assert.Equal($"s3://results/{Prefix}/experiments/kept/trial-0", snapshot.Trials[0].ArtifactFolder);
        var report = await AssertHoldsTheFolderAsync(server, gate);
        Assert.Equal((await Folder.Value).Keys.Where(file => file != "report.json").Order(StringComparer.Ordinal), report["trials"]![0]!["artifacts"]!.AsArray().Select(file => (string?)file));

        // In parts of a megabyte, and nothing was read back: the server tells what it holds.
        Assert.Contains(gate.Passed, request => request.IsPutOf(Weights) && request.Query.Contains("partNumber=3", StringComparison.Ordinal));
        Assert.DoesNotContain(gate.Passed, request => request.Method == "GET" && request.Query.Length == 0);
        var puts = gate.Passed.Where(request => request.Method == "PUT" && request.Path.Contains("/trial-0/", StringComparison.Ordinal)).ToList();
        Assert.EndsWith("/trial-0/manifest.json", puts[^1].Path, StringComparison.Ordinal);
        Assert.Single(puts, request => request.IsPutOf("manifest.json"));

        Assert.False(Directory.Exists(Path.Combine(cluster.Folder, "experiments")));
        Assert.Empty(Directory.EnumerateFileSystemEntries(_staging));
        Assert.All(cluster.Silos, silo => Assert.DoesNotContain(Secret, silo.Log, StringComparison.Ordinal));
        Assert.All(Directory.GetFiles(cluster.Folder, "*", SearchOption.AllDirectories).Where(file => Path.GetExtension(file) is not (".alive" or ".lock")), file => Assert.DoesNotContain(Secret, File.ReadAllText(file), StringComparison.Ordinal));
    }

    [Fact]
    public async Task SiloAndThenServerKilledInMidUpload_OneFileDamagedAndOneRefused_FilesAreThoseOfTheFolder()
    {
        await using var server = await S3Server.StartNewAsync();
        await using var gate = await S3Gate.StartAsync(server.Address, Secret);
        await using var cluster = await RealCluster.StartAsync(1, Settings(gate));
        var (first, second, third) = (new Hold(), new Hold(), new Hold());
        var (damaged, refused) = (0, 0);
        gate.Before = async request =>
        {
            if (request.IsPutOf("/loss.svg") && Interlocked.Increment(ref refused) <= 2)
                return HttpStatusCode.ServiceUnavailable;
            if (request.IsPutOf("/after.png") && Interlocked.Increment(ref damaged) == 1)
                request.Body[^1] ^= 1;
            if (request.IsPutOf(Weights) && !await first.MeetAsync())
                await second.MeetAsync();
            if (request.IsPutOf("/report.json"))
                await third.MeetAsync();
            return null;
        };
        await cluster.SubmitAsync("kept", DigitsSpecs.Small);

        await first.Met.WaitAsync(TimeSpan.FromSeconds(120), TestContext.Current.CancellationToken);
        await cluster.KillAsync("silo-0");
        first.Release();
        Assert.DoesNotContain($"{Prefix}/experiments/kept/trial-0/manifest.json", (await ObjectsAsync(server)).Keys);
        await cluster.AddAsync("silo-0");

        await second.Met.WaitAsync(TimeSpan.FromSeconds(120), TestContext.Current.CancellationToken);
        var unsaved = await cluster.WaitAsync("kept", snapshot => snapshot.Trials[0].State == RunState.Running);
        Assert.Null(unsaved.Trials[0].ArtifactFolder);
        await server.KillAsync();
        second.Release();
        await server.StartAsync();

        await third.Met.WaitAsync(TimeSpan.FromSeconds(120), TestContext.Current.CancellationToken);
        await server.KillAsync();
        third.Release();
        await server.StartAsync();

        var snapshot = await cluster.WaitAsync("kept", snapshot => snapshot.Summary.EndedAt is not null);
        Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason + cluster.Silos[0].Log);
        await AssertHoldsTheFolderAsync(server, gate);
        Assert.True(damaged > 1, "The damaged file was not sent again.");
        Assert.True(refused > 2, "The refused file was not sent again.");
        // What the killed silo left, the next attempt removed.
        Assert.Empty(Directory.EnumerateFileSystemEntries(_staging));
    }

    [Theory]
    [InlineData("secret", "The credentials for bucket 'results' at {0} are refused (SignatureDoesNotMatch). Correct AWS_ACCESS_KEY_ID")]
    [InlineData("account", "The credentials for bucket 'results' at {0} are refused (InvalidAccessKeyId). Correct AWS_ACCESS_KEY_ID")]
    [InlineData("none", "There are no credentials for bucket 'results' at {0}. Set AWS_ACCESS_KEY_ID")]
    [InlineData("bucket", "There is no bucket 'nothing-here' at {0}. Make it, or correct Artifacts:Bucket")]
    [InlineData("server", "Bucket 'results' at http://127.0.0.1:1 cannot be reached (writing 'adjointdpm.txt': Connection refused). Check Artifacts:Endpoint")]
    [InlineData("address", "Artifacts:Endpoint is not of the form https://host or http://host:port. Credentials do not belong in it")]
    public async Task WrongSettings_OneSentenceWithoutTheSecret(string wrong, string expected)
    {
        await using var server = await S3Server.StartNewAsync();
        await using var gate = await S3Gate.StartAsync(server.Address, wrong == "secret" ? "another" : Secret);
        string[] settings =
        [
            .. Settings(gate),
            .. wrong switch
            {
                "account" => ["AWS_ACCESS_KEY_ID=SOMEBODY"],
                "none" => ["AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_EC2_METADATA_DISABLED=true", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_CONFIG_FILE=/dev/null"],
                "bucket" => ["--Artifacts:Bucket=nothing-here"],
                "server" => ["--Artifacts:Endpoint=http://127.0.0.1:1"],
                "address" => [$"--Artifacts:Endpoint=http://me:{Secret}@127.0.0.1:1"],
                _ => Array.Empty<string>(),
            },
        ];
        var (code, error) = await SiloProcess.FailAsync(settings);
        Assert.Equal(1, code);
        Assert.StartsWith(string.Format(System.Globalization.CultureInfo.InvariantCulture, expected, gate.Endpoint), error, StringComparison.Ordinal);
        Assert.Single(error.Split('\n', StringSplitOptions.RemoveEmptyEntries));
        Assert.DoesNotContain(Secret, error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Doctor_TellsOfTheBucket()
    {
        await using var server = await S3Server.StartNewAsync();
        await using var gate = await S3Gate.StartAsync(server.Address, Secret);
        var good = JsonNode.Parse(await SiloProcess.AnswerAsync("--doctor", Settings(gate)))!;
        Assert.Equal(($"s3://results/{Prefix}", null), ((string?)good["artifacts"], (string?)good["artifactsError"]));
        var bad = JsonNode.Parse(await SiloProcess.AnswerAsync("--doctor", [.. Settings(gate), "--Artifacts:Bucket=nothing-here"]))!;
        Assert.Null(bad["artifacts"]);
        Assert.Contains("There is no bucket 'nothing-here'", (string?)bad["artifactsError"], StringComparison.Ordinal);
    }

    private string[] Settings(S3Gate gate) =>
    [
        $"--Artifacts:Bucket={S3Server.Bucket}", $"--Artifacts:Prefix={Prefix}", $"--Artifacts:Endpoint={gate.Endpoint}", "--Artifacts:PartBytes=1048576", $"--Artifacts:StagingFolder={_staging}",
        $"AWS_ACCESS_KEY_ID={S3Server.Account}", $"AWS_SECRET_ACCESS_KEY={Secret}",
    ];

    /// <summary>Compares what the bucket holds with the run on a folder, and returns the report.</summary>
    private static async Task<JsonNode> AssertHoldsTheFolderAsync(S3Server server, S3Gate gate)
    {
        var start = $"{Prefix}/experiments/kept/";
        var objects = await ObjectsAsync(server);
        Assert.Equal([$"{Prefix}/adjointdpm.txt"], objects.Keys.Where(key => !key.StartsWith(start, StringComparison.Ordinal)));
        // The report tells when; all else is a function of the spec.
        var expected = (await Folder.Value).Where(file => file.Key != "report.json").Select(file => (file.Key, file.Value)).Order();
        Assert.Equal(expected, objects.Where(file => file.Key.StartsWith(start, StringComparison.Ordinal) && !file.Key.EndsWith("report.json", StringComparison.Ordinal)).Select(file => (file.Key[start.Length..], Convert.ToHexStringLower(SHA256.HashData(file.Value)))).Order());
        Assert.Contains(gate.Passed, request => request.IsPutOf("/report.json"));
        return JsonNode.Parse(objects[start + "report.json"])!;
    }

    private static async Task<Dictionary<string, byte[]>> ObjectsAsync(S3Server server)
    {
        using var client = new AmazonS3Client(new BasicAWSCredentials(S3Server.Account, Secret), new AmazonS3Config { ServiceURL = server.Address.ToString(), ForcePathStyle = true, ResponseChecksumValidation = ResponseChecksumValidation.WHEN_REQUIRED });
        var objects = new Dictionary<string, byte[]>();
        foreach (var found in (await client.ListObjectsV2Async(new ListObjectsV2Request { BucketName = S3Server.Bucket }, TestContext.Current.CancellationToken)).S3Objects ?? [])
        {
            using var answer = await client.GetObjectAsync(S3Server.Bucket, found.Key, TestContext.Current.CancellationToken);
            using var bytes = new MemoryStream();
            await answer.ResponseStream.CopyToAsync(bytes, TestContext.Current.CancellationToken);
            objects[found.Key] = bytes.ToArray();
        }
        return objects;
    }

    /// <summary>A place where the first that comes waits.</summary>
    private sealed class Hold
    {
        private readonly TaskCompletionSource _met = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly TaskCompletionSource _released = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public Task Met => _met.Task;

        public void Release() => _released.TrySetResult();

        public async Task<bool> MeetAsync()
        {
            if (!_met.TrySetResult())
                return false;
            await _released.Task;
            return true;
        }
    }
}
