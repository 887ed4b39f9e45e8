using System.Diagnostics;
using System.Net;

namespace AdjointDpm.Cluster.Tests.Servers;

/// <summary>s3rver, an S3 server on a folder, with one empty bucket. It takes any signature of its one account: <see cref="S3Gate"/> is what checks them.</summary>
internal sealed class S3Server : StorageServer
{
    public const string Bucket = "results";
    public const string Account = "S3RVER";

    private static readonly SemaphoreSlim One = new(1);
    private readonly string _program;

    private S3Server(string program) => _program = program;

    public override string[] SiloSettings => [];

    public Uri Address => new($"http://127.0.0.1:{PortText}");

    public static async Task<S3Server> StartNewAsync()
    {
        var folder = Path.Combine(Repository.Root, "artifacts", "servers", "s3rver");
        var program = Path.Combine(folder, "s3rver");
        await One.WaitAsync(TestContext.Current.CancellationToken);
        try
        {
            if (!File.Exists(program))
            {
                using var fetch = Process.Start(new ProcessStartInfo("bash", [Path.Combine(Repository.Root, "tests", "Cluster.Tests", "Servers", "s3rver.sh"), folder]) { RedirectStandardError = true, RedirectStandardOutput = true })!;
                var (said, error) = (fetch.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken), fetch.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken));
                await fetch.WaitForExitAsync(TestContext.Current.CancellationToken);
                Assert.True(fetch.ExitCode == 0, $"s3rver could not be fetched:\n{await said}\n{await error}");
            }
        }
        finally
        {
            One.Release();
        }
        var server = new S3Server(program);
        await server.StartAsync();
        return server;
    }

    protected override Process Run() => Process.Start(new ProcessStartInfo(_program, ["--directory", Folder, "--address", "127.0.0.1", "--port", PortText, "--silent", "--no-vhost-buckets", "--configure-bucket", Bucket]) { RedirectStandardOutput = true, RedirectStandardError = true })!;

    protected override async Task<bool> AnswersAsync()
    {
        try
        {
            using var http = new HttpClient();
            using var answer = await http.GetAsync(new Uri(Address, $"/{Bucket}"), TestContext.Current.CancellationToken);
            return answer.StatusCode == HttpStatusCode.OK;
        }
        catch (HttpRequestException)
        {
            return false;
        }
    }
}
