using System.Collections.Concurrent;
using System.ComponentModel.DataAnnotations;
using System.Reflection;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace AdjointDpm.Grains.Specs;

/// <summary>What may stand at a place of a spec: read once from the records and their attributes, so that the records stay the only definition.</summary>
internal abstract record SpecShape
{
    private static readonly ConcurrentDictionary<Type, ObjectShape> Objects = new();

    /// <summary>What is expected here, in words that complete "must be …".</summary>
    public abstract string Expected { get; }

    /// <summary>Something that binds, used where the user's own did not, so that the rest can still be checked.</summary>
    public abstract JsonNode Placeholder();

    public static ObjectShape Of<T>() => Of(typeof(T));

    private static ObjectShape Of(Type type) => Objects.GetOrAdd(type, static type => new ObjectShape(
        [.. type.GetProperties(BindingFlags.Public | BindingFlags.Instance | BindingFlags.DeclaredOnly).Where(p => p.CanWrite).Select(Member)]));

    private static SpecMember Member(PropertyInfo property)
    {
        var nullability = new NullabilityInfoContext().Create(property);
        return new SpecMember(
            JsonNamingPolicy.CamelCase.ConvertName(property.Name),
            Of(property.PropertyType, property),
            property.IsDefined(typeof(System.Runtime.CompilerServices.RequiredMemberAttribute)),
            nullability.WriteState == NullabilityState.Nullable,
            property);
    }

    private static SpecShape Of(Type type, PropertyInfo property)
    {
        type = Nullable.GetUnderlyingType(type) ?? type;
        if (type.IsGenericType && type.GetGenericTypeDefinition() == typeof(IReadOnlyList<>))
        {
            return new ListShape(
                Of(type.GetGenericArguments()[0], property), property.GetCustomAttribute<MinLengthAttribute>()?.Length ?? 0);
        }

        if (type.IsGenericType && type.GetGenericTypeDefinition() == typeof(IReadOnlyDictionary<,>))
            return new MapShape(Of(type.GetGenericArguments()[1], property));
        if (type.IsEnum || type == typeof(string) || type == typeof(int) || type == typeof(double) || type == typeof(bool))
        {
            return new ScalarShape(type)
            {
                Range = property.GetCustomAttribute<RangeAttribute>(),
                Path = property.GetCustomAttribute<ExistingPathAttribute>()?.Kind,
                NestedAsText = property.IsDefined(typeof(NestedAsTextAttribute)),
            };
        }

        return Of(type);
    }
}

/// <summary>A key of an object.</summary>
internal sealed record SpecMember(string Name, SpecShape Shape, bool Required, bool Nullable, PropertyInfo Property);

/// <summary>A record of the spec.</summary>
internal sealed record ObjectShape(IReadOnlyList<SpecMember> Members) : SpecShape
{
    public override string Expected => "a mapping with the keys " + string.Join(", ", Members.Select(member => member.Name));

    public SpecMember? Find(string name) => Members.FirstOrDefault(member => member.Name == name);

    public override JsonNode Placeholder() => new JsonObject(
        Members.Where(member => member.Required).Select(member => KeyValuePair.Create(member.Name, (JsonNode?)member.Shape.Placeholder())));
}

/// <summary>A list.</summary>
internal sealed record ListShape(SpecShape Element, int MinLength) : SpecShape
{
    public override string Expected => Element is ScalarShape scalar ? $"a list ({scalar.Expected} in each item)" : "a list of mappings";

    public override JsonNode Placeholder() => new JsonArray();
}

/// <summary>A mapping from free names.</summary>
internal sealed record MapShape(SpecShape Value) : SpecShape
{
    public override string Expected => "a mapping";

    public override JsonNode Placeholder() => new JsonObject();
}

/// <summary>A single value.</summary>
internal sealed record ScalarShape(Type Type) : SpecShape
{
    public RangeAttribute? Range { get; init; }

    public ExistingPathKind? Path { get; init; }

    public bool NestedAsText { get; init; }

    /// <summary>Spellings of an enum, in the order of declaration.</summary>
    public IReadOnlyList<string> Words => SpecWords.Of(Type).All;

    public override string Expected =>
        Type.IsEnum ? "one of " + string.Join(", ", Words)
        : Type == typeof(int) ? "a whole number" + Interval
        : Type == typeof(double) ? "a number" + Interval
        : Type == typeof(bool) ? "true or false"
        : Path == ExistingPathKind.Folder ? "the path of a folder"
        : Path == ExistingPathKind.Model ? "the path of a folder or file"
        : Path == ExistingPathKind.File ? "the path of a file"
        : "text";

    private string Interval => Range is null ? "" : FormattableString.Invariant($" from {Range.Minimum} to {Range.Maximum}").ToLowerInvariant();

    public override JsonNode Placeholder() =>
        Type.IsEnum ? JsonValue.Create(Words[0])
        : Type == typeof(int) ? JsonValue.Create(1)
        : Type == typeof(double) ? JsonValue.Create(1.0)
        : Type == typeof(bool) ? JsonValue.Create(false)
        : JsonValue.Create("?");

    public bool InRange(double value) =>
        Range is null || (value >= Convert.ToDouble(Range.Minimum, null) && value <= Convert.ToDouble(Range.Maximum, null));
}
