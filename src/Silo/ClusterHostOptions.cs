using System.ComponentModel.DataAnnotations;
using AdjointDpm.Grains.Hosting;

namespace AdjointDpm.Silo;

/// <summary>Where membership and state are kept.</summary>
public enum ClusterProvider
{
    /// <summary>In the data folder: for silos on one machine.</summary>
    File,

    /// <summary>In Redis: for silos on several machines.</summary>
    Redis,

    /// <summary>In PostgreSQL: for silos on several machines.</summary>
    Postgres,
}

/// <summary>Section <c>Cluster</c>: what all silos of a cluster have in common.</summary>
public sealed class ClusterHostOptions : IValidatableObject
{
    public const string Section = "Cluster";

    /// <summary>Default: file.</summary>
    public ClusterProvider Provider { get; set; }

    [Required]
    public string ClusterId { get; set; } = AdjointDpmCluster.ClusterId;

    [Required]
    public string ServiceId { get; set; } = AdjointDpmCluster.ServiceId;

    /// <summary>Connection string of Redis, such as <c>redis:6379,password=…,ssl=true</c>.</summary>
    public string? RedisConnection { get; set; }

    /// <summary>Connection string of PostgreSQL, such as <c>Host=db;Database=adjointdpm;Username=…;Password=…</c>. The tables are made when they are missing.</summary>
    public string? PostgresConnection { get; set; }

    public IEnumerable<ValidationResult> Validate(ValidationContext validationContext)
    {
        if (Provider == ClusterProvider.Redis && string.IsNullOrWhiteSpace(RedisConnection))
            yield return new ValidationResult("Cluster:Provider is redis, but Cluster:RedisConnection is not set. Give host:port.");
        if (Provider == ClusterProvider.Postgres && string.IsNullOrWhiteSpace(PostgresConnection))
            yield return new ValidationResult("Cluster:Provider is postgres, but Cluster:PostgresConnection is not set. Give Host=…;Database=…;Username=…;Password=….");
    }
}
