using System.Text.Json.Nodes;
using AdjointDpm.Grains.Security;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;

namespace AdjointDpm.Grains.Tests.Security;

/// <summary>Who did what: all of what was done, and of refusals no more than a disk can bear.</summary>
public sealed class AuditLogTests : IDisposable
{
    private static readonly Caller Ana = new("ana", "vision", Role.View), Bob = new("bob", "audio", Role.Submit);
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("adjointdpm-audit-");
    private readonly FakeTimeProvider _clock = new();

    private string LogFile => Path.Combine(_folder.FullName, "audit", "silo-0.jsonl");

    public void Dispose() => _folder.Delete(recursive: true);

    [Fact]
    public void RefusalsInALoop_HaveSomeLinesAMinuteAndThenTheirNumber_AndNobodyElseLosesALine()
    {
        using (var audit = Open())
        {
            for (var i = 0; i < 1000; i++)
                audit.Add(Ana, "cancel", $"e{i}", AuditLog.Refused, "not hers");
            for (var i = 0; i < 50; i++)
                audit.Add(Ana, "look", "own", "done");
            audit.Add(Bob, "pause", "e", AuditLog.Refused);
            Assert.Equal(AuditLog.MostRefusals + 50 + 1, Lines().Count);
            Assert.Equal(1001, audit.Refusals);

            // A minute later the number stands there with whatever comes next, and lines begin anew.
            _clock.Advance(AuditLog.Window);
            audit.Add(Ana, "cancel", "again", AuditLog.Refused);
            var lines = Lines();
            Assert.Equal(AuditLog.MostRefusals + 50 + 1 + 2, lines.Count);
            Assert.Equal(("ana", "refused", "990 more within a minute"), ((string)lines[^2]["user"]!, (string)lines[^2]["outcome"]!, (string)lines[^2]["reason"]!));
            Assert.Equal("again", (string)lines[^1]["target"]!);
            Assert.DoesNotContain(lines, line => (string?)line["user"] == "bob" && ((string?)line["reason"])?.Contains("more", StringComparison.Ordinal) == true);
            for (var i = 0; i < AuditLog.MostRefusals; i++)
                audit.Add(Ana, "cancel", "more", AuditLog.Refused);
        }
        // What was counted is written when the silo stops.
        Assert.Equal("1 more within a minute", (string)Lines()[^1]["reason"]!);
    }

    [Fact]
    public void UnknownCallers_AreCountedTogether()
    {
        using var audit = Open();
        for (var i = 0; i < 100; i++)
            audit.Add(null, "guess tokens", "HTTP", AuditLog.Refused, null, $"192.0.2.{i}");
        Assert.Equal(AuditLog.MostRefusals, Lines().Count);
    }

    private AuditLog Open() => new(LogFile, "silo-0", _clock, NullLogger<AuditLog>.Instance);

    private List<JsonNode> Lines() => [.. File.ReadAllText(LogFile).Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonNode.Parse(line)!)];
}
