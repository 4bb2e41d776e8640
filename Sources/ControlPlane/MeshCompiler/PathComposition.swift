import Base
import ProxyConfig

/// What a gateway route does to the path before the router of its service looks at it.
enum GatewayPath: Hashable {
    /// `prefix` becomes `replacement`; equal ones leave the path alone.
    case prefix(String, becomes: String)
    /// The path is this one, and becomes `replacement`.
    case exact(String, becomes: String)
    /// Matching paths stay as they are.
    case regex(String)
    /// Matching paths become this one.
    case regexBecoming(String, String)
}

/// Two passes in one. App Mesh's gateway matched and rewrote a request, sent it to itself, and there the service's router matched what
/// the first pass had made of it. We compose both matches when we compile: the proxy looks once and forwards once.
/// The reasons: docs/decisions/0012-gateway-routes-are-composed.md.
struct PathComposition: Hashable {
    var path: RouteMatch.Path
    /// What the path alone cannot say: conditions on `:path`.
    var conditions: [HeaderMatcher] = []
    var rewrite: ForwardAction.PathRewrite?

    struct Inexpressible: Error, Hashable {
        var pattern: String
    }

    /// The matches that hold exactly where `gateway` holds and `router` holds for the path that the gateway makes of it; none, where
    /// that can never be. In the order in which they must be tried.
    static func compose(_ gateway: GatewayPath, _ router: RouteMatch.Path) throws(Inexpressible) -> [PathComposition] {
        switch gateway {
        case .prefix(let prefix, let replacement) where prefix == replacement:
            return kept(prefix, router)
        case .prefix(let prefix, let replacement):
            return try rewritten(prefix, replacement, router)
        case .exact(let path, let replacement):
            guard try router.holds(for: replacement) else { return [] }
            return [PathComposition(path: .exact(path), rewrite: path == replacement ? nil : .full(replacement))]
        case .regexBecoming(let pattern, let replacement):
            guard try router.holds(for: replacement) else { return [] }
            return [PathComposition(path: .regex(pattern), rewrite: .full(replacement))]
        case .regex(let pattern):
            switch router {
            case .exact(let path):
                return try RouteMatch.Path.regex(pattern).holds(for: path) ? [PathComposition(path: .exact(path))] : []
            case .prefix, .regex:
                return [PathComposition(path: .regex(pattern), conditions: router.asCondition)]
            }
        }
    }

    /// The path stays: both matches must hold for it.
    private static func kept(_ prefix: String, _ router: RouteMatch.Path) -> [PathComposition] {
        switch router {
        case .prefix(let other):
            if other.hasPrefix(prefix) { return [PathComposition(path: .prefix(other))] }
            return prefix.hasPrefix(other) ? [PathComposition(path: .prefix(prefix))] : []
        case .exact(let path):
            return path.hasPrefix(prefix) ? [PathComposition(path: .exact(path))] : []
        case .regex(let pattern):
            return [PathComposition(path: .regex(pattern), conditions: RouteMatch.Path.prefix(prefix).asCondition)]
        }
    }

    private static func rewritten(
        _ prefix: String, _ replacement: String, _ router: RouteMatch.Path
    ) throws(Inexpressible) -> [PathComposition] {
        // `/shop` becomes `/`: `/shop/cart` is `//cart` by the letter and `/cart` in its normal form, which the router sees.
        let needsSlash = !prefix.hasSuffix("/") && replacement.hasSuffix("/")
        let variants = needsSlash ? ["\(prefix)/", prefix] : [prefix]
        var composed: [PathComposition] = []
        for variant in variants {
            switch router {
            case .prefix(let other) where replacement.hasPrefix(other):
                composed.append(PathComposition(path: .prefix(variant), rewrite: .prefix(replacement)))
            case .prefix(let other) where other.hasPrefix(replacement):
                let rest = other.dropFirst(replacement.count)
                composed.append(PathComposition(path: .prefix("\(variant)\(rest)"), rewrite: .prefix(other)))
            case .exact(let path) where path.hasPrefix(replacement):
                let rest = path.dropFirst(replacement.count)
                composed.append(PathComposition(path: .exact("\(variant)\(rest)"), rewrite: .full(path)))
            case .prefix, .exact:
                break
            case .regex(let pattern):
                guard let rest = RegexDerivative.of(pattern, by: replacement) else { throw Inexpressible(pattern: pattern) }
                for alternative in rest {
                    let condition = "\(RegexDerivative.quoted(variant))(?:\(alternative))(?:\\?.*)?"
                    composed.append(
                        PathComposition(
                            path: .prefix(variant), conditions: [HeaderMatcher(name: ":path", condition: .regex(condition))],
                            rewrite: .prefix(replacement)))
                }
            }
        }
        return composed
    }
}

extension RouteMatch.Path {
    /// Whether a path that is known now matches.
    fileprivate func holds(for path: String) throws(PathComposition.Inexpressible) -> Bool {
        switch self {
        case .prefix(let prefix): return path.hasPrefix(prefix)
        case .exact(let exact): return path == exact
        case .regex(let pattern):
            guard let regex = try? Regex(pattern) else { throw PathComposition.Inexpressible(pattern: pattern) }
            return (try? regex.wholeMatch(in: path)) != nil
        }
    }

    /// The same as a condition on `:path`, which carries the query too.
    fileprivate var asCondition: [HeaderMatcher] {
        switch self {
        case .prefix("/"): []
        case .prefix(let prefix): [HeaderMatcher(name: ":path", condition: .prefix(prefix))]
        case .exact(let path): [HeaderMatcher(name: ":path", condition: .regex("\(RegexDerivative.quoted(path))(?:\\?.*)?"))]
        case .regex(let pattern): [HeaderMatcher(name: ":path", condition: .regex("(?:\(pattern))(?:\\?.*)?"))]
        }
    }
}

/// Takes a known beginning off a pattern: Brzozowski's derivative by a string.
enum RegexDerivative {
    /// Deeper nesting, or a repetition of what may be empty, is not taken apart.
    private static let maxDepth = 32

    /// Patterns whose union matches exactly the rests `r` for which `pattern` matches `beginning + r`. Empty: there are none.
    /// Nil: the pattern begins with something that this does not take apart (a counted repetition, an assertion, a flag).
    static func of(_ pattern: String, by beginning: String) -> [String]? {
        guard var patterns = alternatives(pattern) else { return nil }
        for character in beginning {
            var next: [String] = []
            for pattern in patterns {
                guard let rests = derivative(pattern[...], character, depth: 0) else { return nil }
                for rest in rests where !next.contains(rest) { next.append(rest) }
            }
            patterns = next
        }
        return patterns
    }

    /// A pattern that matches the text alone.
    static func quoted(_ text: some StringProtocol) -> String {
        var quoted = ""
        for character in text {
            if "\\.+*?()|[]{}^$".contains(character) { quoted.append("\\") }
            quoted.append(character)
        }
        return quoted
    }

    /// Splits at the `|` that stand in no group and no class; nil where brackets do not pair.
    private static func alternatives(_ pattern: some StringProtocol) -> [String]? {
        var parts: [String] = []
        var start = pattern.startIndex
        var index = start
        while index < pattern.endIndex {
            guard pattern[index] != ")", let end = endOfAtom(pattern, index) else { return nil }
            if pattern[index] == "|" {
                parts.append(String(pattern[start..<index]))
                start = end
            }
            index = end
        }
        return parts + [String(pattern[start...])]
    }

    /// Where the character, escape, class or group that begins at `start` ends; nil where it does not.
    private static func endOfAtom(_ pattern: some StringProtocol, _ start: String.Index) -> String.Index? {
        var index = pattern.index(after: start)
        switch pattern[start] {
        case "\\":
            return index < pattern.endIndex ? pattern.index(after: index) : nil
        case "[":
            if index < pattern.endIndex, pattern[index] == "^" { index = pattern.index(after: index) }
            // A bracket that comes first stands for itself.
            var isFirst = true
            while index < pattern.endIndex, isFirst || pattern[index] != "]" {
                isFirst = false
                if pattern[index] == "\\" { index = pattern.index(after: index) }
                guard index < pattern.endIndex else { return nil }
                index = pattern.index(after: index)
            }
            return index < pattern.endIndex ? pattern.index(after: index) : nil
        case "(":
            while index < pattern.endIndex, pattern[index] != ")" {
                guard let end = endOfAtom(pattern, index) else { return nil }
                index = end
            }
            return index < pattern.endIndex ? pattern.index(after: index) : nil
        default:
            return index
        }
    }

    /// Of a pattern without alternatives of its own, by one character.
    private static func derivative(_ pattern: Substring, _ character: Character, depth: Int) -> [String]? {
        guard depth < maxDepth else { return nil }
        // Matches are of the whole path anyway.
        let pattern = pattern.first == "^" ? pattern.dropFirst() : pattern
        guard let first = pattern.first else { return [] }
        if first == "$" { return pattern.count == 1 ? [] : nil }
        guard !"*+?{".contains(first), let end = endOfAtom(pattern, pattern.startIndex) else { return nil }
        let atom = pattern[..<end]
        var rest = pattern[end...]
        var quantifier: Character?
        if let next = rest.first, "*+?{".contains(next) {
            guard next != "{" else { return nil }
            quantifier = rest.removeFirst()
            if rest.first == "?" || rest.first == "+" { rest.removeFirst() }  // Lazy or greedy: the same paths match.
        }
        // What follows once the atom has taken the character.
        let after = quantifier == "*" || quantifier == "+" ? "\(atom)*\(rest)" : String(rest)
        guard let taken = taken(atom, after, character, depth) else { return nil }
        guard quantifier == "?" || quantifier == "*" else { return taken }
        guard let without = derivative(rest, character, depth: depth + 1) else { return nil }
        return taken + without
    }

    private static func taken(_ atom: Substring, _ after: String, _ character: Character, _ depth: Int) -> [String]? {
        guard atom.first == "(" else {
            guard let matches = matches(atom, character) else { return nil }
            return matches ? [after] : []
        }
        var inner = atom.dropFirst().dropLast()
        if inner.first == "?" {
            guard inner.hasPrefix("?:") else { return nil }  // Flags and names.
            inner = inner.dropFirst(2)
        }
        guard let alternatives = alternatives(inner) else { return nil }
        var found: [String] = []
        for alternative in alternatives {
            guard let rests = derivative("\(alternative)\(after)"[...], character, depth: depth + 1) else { return nil }
            found += rests
        }
        return found
    }

    /// Whether an atom that stands for one character stands for this one.
    private static func matches(_ atom: Substring, _ character: Character) -> Bool? {
        switch atom.first {
        case ".": return true
        case "[": return (try? Regex(String(atom))).map { (try? $0.wholeMatch(in: String(character))) != nil }
        case "\\":
            guard let escaped = atom.last, escaped.isLetter || escaped.isNumber else { return atom.last == character }
            guard "dDwWsS".contains(escaped) else { return nil }
            return (try? Regex(String(atom))).map { (try? $0.wholeMatch(in: String(character))) != nil }
        default: return atom.first == character
        }
    }
}
