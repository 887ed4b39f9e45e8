using System.Globalization;
using System.Xml.Linq;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Client.Reporting;

/// <summary>What attacks on a classifier came to, for the page.</summary>
internal static class AttackSection
{
    private const int MostRows = 50;

    /// <summary>Empty for an experiment that attacks none.</summary>
    public static object[] Of(RecordedExperiment experiment)
    {
        var attacks = experiment.Report.Trials.Select(trial => (Trial: trial, Outcome: AttackOutcome.Of(trial.Metrics, trial.CostOf("trainingSeconds")))).Where(attack => attack.Outcome is not null).Take(MostRows).ToList();
        if (attacks.Count == 0)
            return [];
        var paths = attacks.SelectMany(attack => attack.Trial.Parameters.Keys).Distinct().ToList();
        return
        [
            Html.Table(["trial", .. paths.Select(path => Words.Short(path, paths)), .. AttackView.Titles], attacks.Select(attack => (object[])
            [
                attack.Trial.Index.ToString(CultureInfo.InvariantCulture), .. paths.Select(path => attack.Trial.Parameters.GetValueOrDefault(path, "")), .. AttackView.Cells(attack.Outcome!),
            ])),
            new XElement("p", new XAttribute("class", "note"), "Success: of the noises whose sample did not meet the goal at first, those whose sample does in the end. By chance: the same noises under blind moves as long as the attack's. Still its class: to the held-out classifier, which was neither attacked nor asked; what it does not recognise may have become another picture rather than a misjudged one. Moves are means over the noises. Seconds are those that devices computed for the steps. Intervals are Wilson's."),
        ];
    }
}
