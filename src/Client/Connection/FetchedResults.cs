namespace AdjointDpm.Client.Connection;

/// <summary>Results that a command needs until it ends; what was fetched of them is gone then.</summary>
internal sealed class FetchedResults : IDisposable
{
    private readonly List<Results> _all = [];

    public Results Add(Results results)
    {
        _all.Add(results);
        return results;
    }

    public void Dispose() => _all.ForEach(results => results.Dispose());
}
