using System.Collections;
using System.Reflection;
using System.Runtime.CompilerServices;
using static TorchSharp.torch;

namespace AdjointDpm.Samplers;

/// <summary>Tensors that a predictor can see, by the names that its author gave them: captured locals, fields, elements of collections, parameters and buffers of networks.</summary>
/// <remarks>Walks what the delegate holds. Static fields are not looked at, nor what lies deeper than <see cref="Depth"/> or beyond <see cref="MostObjects"/> objects.</remarks>
internal sealed class CapturedTensors
{
    private const int Depth = 8, MostObjects = 20_000;

    private readonly HashSet<object> _seen = new(ReferenceEqualityComparer.Instance);
    private readonly List<(string Name, Tensor Value)> _found = [];

    private CapturedTensors()
    {
    }

    /// <summary>What a delegate holds, in the order of declaration.</summary>
    public static IReadOnlyList<(string Name, Tensor Value)> Of(IEnumerable<Delegate> delegates)
    {
        var walk = new CapturedTensors();
        foreach (var each in delegates)
            walk.Visit(each, "", 0);
        return walk._found;
    }

    private void Visit(object? value, string path, int depth)
    {
        if (value is null or string or Type or nint or nuint || value.GetType().IsPrimitive || depth > Depth || _seen.Count >= MostObjects || (value is not ValueType && !_seen.Add(value)))
            return;
        switch (value)
        {
            case Tensor tensor:
                if (!tensor.IsInvalid)
                    _found.Add((path, tensor));
                break;
            case Delegate function:
                foreach (var one in function.GetInvocationList())
                    Visit(one.Target, path, depth + 1);
                break;
            case nn.Module network:
                foreach (var (name, tensor) in network.named_parameters())
                    Visit(tensor, Join(path, name), depth + 1);
                foreach (var (name, tensor) in network.named_buffers())
                    Visit(tensor, Join(path, name), depth + 1);
                VisitFields(value, path, depth);
                break;
            case IDictionary map:
                foreach (DictionaryEntry entry in map)
                    Visit(entry.Value, $"{path}[{entry.Key}]", depth + 1);
                break;
            case IList list:
                for (var i = 0; i < list.Count; i++)
                    Visit(list[i], $"{path}[{i}]", depth + 1);
                break;
            default:
                VisitFields(value, path, depth);
                break;
        }
    }

    private void VisitFields(object owner, string path, int depth)
    {
        for (var type = owner.GetType(); type is not null && !IsForeign(type); type = type.BaseType)
        {
            foreach (var field in type.GetFields(BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly))
            {
                if (!field.FieldType.IsPrimitive && !field.FieldType.IsPointer && !field.FieldType.IsByRefLike && !field.FieldType.IsEnum)
                    Visit(field.GetValue(owner), Named(path, field), depth + 1);
            }
        }
    }

    // Closures within closures, and the object that a lambda belongs to, add nothing to the name: "<>4__this", "CS$<>8__locals1". "<Scale>k__BackingField" and "<net>P" are Scale and net.
    private static string Named(string path, FieldInfo field)
    {
        var name = field.Name;
        if (name.StartsWith('<') && name.IndexOf('>', StringComparison.Ordinal) is var end and > 1)
            return Join(path, name[1..end]);
        return name.Contains('<', StringComparison.Ordinal) || (IsOwnClosure(field) && typeof(Delegate).IsAssignableFrom(field.FieldType)) ? path : Join(path, name);
    }

    // The library wraps the predictor it is given in lambdas of its own: their parameters' names are not the author's.
    private static bool IsOwnClosure(FieldInfo field)
        => field.DeclaringType is { } type && type.Assembly == typeof(CapturedTensors).Assembly && type.IsDefined(typeof(CompilerGeneratedAttribute), inherit: false);

    private static bool IsForeign(Type type)
        => type.Namespace is { } space && (Within(space, "System") || Within(space, "Microsoft") || Within(space, "TorchSharp"));

    private static bool Within(string space, string root) => space == root || (space.StartsWith(root, StringComparison.Ordinal) && space[root.Length] == '.');

    private static string Join(string path, string name) => path.Length == 0 ? name : $"{path}.{name}";
}
