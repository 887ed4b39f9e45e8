namespace AdjointDpm.Tests.Models;

/// <summary>Tests that change something the whole process has one of, such as the default device or the pace of the collector, run alone.</summary>
[CollectionDefinition(nameof(Alone), DisableParallelization = true)]
public sealed class Alone;
