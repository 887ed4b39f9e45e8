using System.Collections;
using System.Globalization;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Text.Json.Nodes;

namespace AdjointDpm.Grains.Tests.Wire;

/// <summary>Makes an instance of any record of the wire or of a state, every member filled, and says what it holds.</summary>
internal static class Samples
{
    private const int Deepest = 5;
    private static readonly DateTimeOffset Moment = new(2026, 1, 2, 3, 4, 5, TimeSpan.Zero);

    public static object Of(Type type) => Value(type, 0)!;

    /// <summary>Contents by the number of each member on the wire, or by its name where it has none.</summary>
    public static JsonNode? Describe(object? value) => value switch
    {
        null => null,
        string text => text,
        Enum word => Convert.ToInt64(word, CultureInfo.InvariantCulture).ToString(CultureInfo.InvariantCulture),
        DateTimeOffset time => time.ToString("O", CultureInfo.InvariantCulture),
        IDictionary map => new JsonObject(map.Keys.Cast<object>().Select(key => KeyValuePair.Create(Convert.ToString(key, CultureInfo.InvariantCulture)!, Describe(map[key])))),
        IEnumerable items => new JsonArray([.. items.Cast<object?>().Select(Describe)]),
        IFormattable number when value.GetType().IsPrimitive || value is Guid or TimeSpan or decimal => number.ToString(null, CultureInfo.InvariantCulture),
        bool yes => yes ? "true" : "false",
        _ => new JsonObject(Members(value.GetType()).Select(member => KeyValuePair.Create(member.Key, Describe(member.Get(value))))),
    };

    /// <summary>What <paramref name="then"/> has that <paramref name="now"/> has not, or otherwise; null when nothing. More members are no difference.</summary>
    public static string? Difference(JsonNode? then, JsonNode? now, string at = "") => (then, now) switch
    {
        (JsonObject before, JsonObject after) => before.Select(pair => Difference(pair.Value, after[pair.Key], $"{at}.{pair.Key}")).FirstOrDefault(found => found is not null),
        (JsonArray before, JsonArray after) when before.Count == after.Count => before.Select((item, i) => Difference(item, after[i], $"{at}[{i}]")).FirstOrDefault(found => found is not null),
        _ => JsonNode.DeepEquals(then, now) ? null : $"{at}: {then?.ToJsonString() ?? "nothing"} is read as {now?.ToJsonString() ?? "nothing"}",
    };

    private static object? Value(Type type, int depth)
    {
        if (depth > Deepest)
            return null;
        if (Nullable.GetUnderlyingType(type) is { } inner)
            return Value(inner, depth);
        if (type.IsEnum)
            return Enum.GetValues(type).Cast<object>().Last();
        if (type.IsArray)
            return List(type.GetElementType()!, depth);
        if (type.IsGenericType)
        {
            var (form, of) = (type.GetGenericTypeDefinition(), type.GetGenericArguments());
            if (form == typeof(KeyValuePair<,>))
                return Activator.CreateInstance(type, Value(of[0], depth + 1), Value(of[1], depth + 1));
            if (type.IsAssignableTo(typeof(IDictionary)) || form == typeof(IReadOnlyDictionary<,>))
            {
                var map = (IDictionary)Activator.CreateInstance(type.IsInterface ? typeof(Dictionary<,>).MakeGenericType(of) : type)!;
                map[Value(of[0], depth + 1)!] = Value(of[1], depth + 1);
                return map;
            }
            if (type.IsAssignableFrom(of[0].MakeArrayType()))
                return List(of[0], depth);
            if (type.IsAssignableTo(typeof(IEnumerable)))
                return Activator.CreateInstance(type, List(of[0], depth));
        }
        return Type.GetTypeCode(type) switch
        {
            TypeCode.String => "text",
            TypeCode.Boolean => true,
            TypeCode.Int32 => 7,
            TypeCode.Int64 => 8L,
            TypeCode.Single => 0.25f,
            TypeCode.Double => 0.5,
            TypeCode.Byte => (byte)9,
            TypeCode.UInt64 => 10ul,
            _ when type == typeof(DateTimeOffset) => Moment,
            _ when type == typeof(TimeSpan) => TimeSpan.FromSeconds(11),
            _ when type == typeof(Guid) => new Guid("01234567-89ab-cdef-0123-456789abcdef"),
            _ => Record(type, depth),
        };
    }

    private static object? Record(Type type, int depth)
    {
        var members = Members(type).ToList();
        if (members.Count == 0 || type.IsAbstract || type.IsAssignableTo(typeof(Exception)))
            return null;
        var made = type.GetConstructor(Type.EmptyTypes) is { } plain ? plain.Invoke([]) : RuntimeHelpers.GetUninitializedObject(type);
        foreach (var member in members)
            member.Set(made, Value(member.Type, depth + 1));
        return made;
    }

    private static Array List(Type of, int depth)
    {
        var item = Value(of, depth + 1);
        var list = Array.CreateInstance(of, item is null ? 0 : 1);
        if (item is not null)
            list.SetValue(item, 0);
        return list;
    }

    private static IEnumerable<Member> Members(Type type)
    {
        const BindingFlags All = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance;
        var numbered = type.GetMembers(All).Where(member => member.IsDefined(typeof(IdAttribute))).Select(member => (Key: member.GetCustomAttribute<IdAttribute>()!.Id.ToString(CultureInfo.InvariantCulture), member)).ToList();
        var named = numbered.Count > 0 ? numbered : [.. type.GetProperties(BindingFlags.Public | BindingFlags.Instance).Where(property => property.CanWrite && property.GetIndexParameters().Length == 0).Select(property => (property.Name, (MemberInfo)property))];
        foreach (var (key, member) in named)
            switch (member)
            {
                case PropertyInfo { CanWrite: true } property:
                    yield return new(key, property.PropertyType, property.GetValue, property.SetValue);
                    break;
                case FieldInfo field:
                    yield return new(key, field.FieldType, field.GetValue, field.SetValue);
                    break;
            }
    }

    private sealed record Member(string Key, Type Type, Func<object, object?> Get, Action<object, object?> Set);
}
