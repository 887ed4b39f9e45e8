using System.Buffers.Text;
using System.Diagnostics.CodeAnalysis;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Security;

/// <summary>What a user may do in a project. Each includes those before it.</summary>
internal enum Role
{
    /// <summary>Look.</summary>
    View,

    /// <summary>Start experiments, and control those of the project.</summary>
    Submit,

    /// <summary>All, and what concerns the machines: workers, TorchScript, paths outside of the roots.</summary>
    Admin,
}

/// <summary>Somebody from outside, known.</summary>
/// <param name="Name">Name, for audit and messages.</param>
/// <param name="Project">Project; <see cref="AllProjects"/> for all.</param>
/// <param name="Role">What is allowed there.</param>
internal sealed record Caller(string Name, string Project, Role Role)
{
    public const string AllProjects = "*";

    /// <summary>Entry of the request context that says on whose behalf a call inside the cluster is made.</summary>
    private const string Entry = "adjointdpm.caller";

    /// <summary>On whose behalf this call is made; null for the cluster's own.</summary>
    public static Caller? Current
    {
        get => Parse(RequestContext.Get(Entry) as string);
        set
        {
            if (value is null)
                RequestContext.Remove(Entry);
            else
                RequestContext.Set(Entry, value.ToText());
        }
    }

    /// <summary>Whether something of a project is this caller's to see.</summary>
    public bool Sees(string? project) => Project == AllProjects || Project == (project ?? "");

    /// <summary>Whether what tells of all projects at once, as machines and metrics do, is this caller's to see.</summary>
    public bool SeesAll => Project == AllProjects || Role == Role.Admin;

    public string ToText() => $"{Role}\n{Project}\n{Name}";

    public static Caller? Parse(string? text) => text?.Split('\n') is [var role, var project, var name] && Enum.TryParse<Role>(role, out var parsed) ? new Caller(name, project, parsed) : null;
}

/// <summary>What a project may use. Null is no limit.</summary>
internal sealed record ProjectQuota
{
    /// <summary>Trials of all its unfinished experiments that may run at once.</summary>
    public int? RunningTrials { get; init; }

    /// <summary>Experiments that are kept.</summary>
    public int? Experiments { get; init; }
}

/// <summary>A line of a <see cref="UsersFile"/>.</summary>
internal sealed record UserEntry
{
    public required string Name { get; init; }

    public required string Project { get; init; }

    public required Role Role { get; init; }

    /// <summary>SHA-256 of the token's UTF-8, hex. Enough, because tokens are 256 random bits and no words that people choose.</summary>
    public required string TokenSha256 { get; init; }
}

/// <summary>Contents of a <see cref="UsersFile"/>.</summary>
internal sealed record UsersDocument
{
    public IReadOnlyList<UserEntry> Users { get; init; } = [];

    /// <summary>Quotas by project.</summary>
    public IReadOnlyDictionary<string, ProjectQuota> Projects { get; init; } = new Dictionary<string, ProjectQuota>();
}

/// <summary>Users and quotas in a JSON file, read again when it changes.</summary>
internal sealed class UsersFile(string path, TimeProvider time, ILogger logger)
{
    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web)
    {
        WriteIndented = true,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.CamelCase, allowIntegerValues: false) },
    };

    private readonly Reloaded<Loaded> _loaded = new([path], () => Load(path), time, logger);

    /// <summary>Whose token this is. Every entry is compared in full, so that the time tells nothing.</summary>
    public bool TryFind(string token, [NotNullWhen(true)] out Caller? caller)
    {
        var hash = HashOf(token);
        caller = null;
        foreach (var (expected, user) in _loaded.Value.Users)
            if (CryptographicOperations.FixedTimeEquals(expected, hash))
                caller = user;
        return caller is not null;
    }

    /// <summary>Quota of a project.</summary>
    public ProjectQuota QuotaOf(string project) => _loaded.Value.Projects.GetValueOrDefault(project) ?? new ProjectQuota();

    /// <summary>A new token: 256 random bits.</summary>
    public static string NewToken() => "adpm_" + Base64Url.EncodeToString(RandomNumberGenerator.GetBytes(32));

    /// <summary>Adds a user, or gives one a new token, another project or role.</summary>
    /// <exception cref="InvalidDataException">The file does not hold users.</exception>
    public static void Put(string path, string name, string project, Role role, string token)
    {
        var document = File.Exists(path) ? Read(path) : new UsersDocument();
        var entry = new UserEntry { Name = name, Project = project, Role = role, TokenSha256 = Convert.ToHexStringLower(HashOf(token)) };
        var changed = document with { Users = [.. document.Users.Where(user => user.Name != name || user.Project != project), entry] };
        Check(path, changed);
        SecretFile.Write(path, JsonSerializer.Serialize(changed, Json) + "\n");
    }

    private static byte[] HashOf(string token) => SHA256.HashData(Encoding.UTF8.GetBytes(token));

    private static Loaded Load(string path)
    {
        var document = Read(path);
        Check(path, document);
        return new Loaded([.. document.Users.Select(user => (Convert.FromHexString(user.TokenSha256), new Caller(user.Name, user.Project, user.Role)))], document.Projects);
    }

    private static UsersDocument Read(string path)
    {
        try
        {
            return JsonSerializer.Deserialize<UsersDocument>(File.ReadAllBytes(path), Json) ?? throw new JsonException("it is null");
        }
        catch (Exception e) when (e is JsonException or IOException or UnauthorizedAccessException)
        {
            throw new InvalidDataException($"The users file '{path}' cannot be read: {e.Message} 'adpm users add FILE NAME' makes one.", e);
        }
    }

    private static void Check(string path, UsersDocument document)
    {
        foreach (var user in document.Users)
        {
            if (!IsWord(user.Name) || (user.Project != Caller.AllProjects && !IsWord(user.Project)))
                throw new InvalidDataException($"The users file '{path}' has user '{user.Name}' in project '{user.Project}': names are 1 to 100 letters, digits, '-', '.', '_' and '@'.");
            if (user.TokenSha256.Length != 64 || !user.TokenSha256.All(char.IsAsciiHexDigit))
                throw new InvalidDataException($"The users file '{path}': tokenSha256 of '{user.Name}' is no SHA-256 in hex.");
        }
        if (document.Users.GroupBy(user => user.TokenSha256, StringComparer.OrdinalIgnoreCase).FirstOrDefault(same => same.Count() > 1) is { } twice)
            throw new InvalidDataException($"The users file '{path}' gives {string.Join(" and ", twice.Select(user => $"'{user.Name}'"))} the same token.");
        if (document.Projects.FirstOrDefault(project => project.Value.Experiments < 0 || project.Value.RunningTrials < 0).Key is { } negative)
            throw new InvalidDataException($"The users file '{path}': quotas of project '{negative}' must be 0 or more.");
    }

    private static bool IsWord(string text) => text.Length is > 0 and <= 100 && text.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '.' or '_' or '@');

    private sealed record Loaded(IReadOnlyList<(byte[] Sha256, Caller Caller)> Users, IReadOnlyDictionary<string, ProjectQuota> Projects);
}
