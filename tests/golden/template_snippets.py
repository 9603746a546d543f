"""Small templates, each about one construct; make_templates.py renders them with jinja2 as transformers sets it up."""

VARIABLES = {
    "name": "Ada", "text": "  Hello, World!  ", "uni": "Zürich 日本語 😀 naïve", "empty": "", "multi": "one\ntwo\r\n\nthree\n",
    "n": 7, "neg": -7, "f": 2.5, "big": 1e22, "small": 1.5e-7, "yes": True, "no": False, "nil": None,
    "list": [3, 1, 2], "words": ["pear", "Apple", "fig", "apple"], "nested": [[1, [2, "x"]], {"k": [None, True, 1.0]}],
    "d": {"b": 1, "a": {"c": [1, 2]}, "items": "own", "B": 0},
    "users": [{"name": "Bo", "age": 30, "tags": ["x"]}, {"name": "al", "age": 25, "tags": []}, {"name": "Cy", "age": 30}],
    "tree": [{"v": 1, "kids": [{"v": 2, "kids": []}, {"v": 3, "kids": [{"v": 4, "kids": []}]}]}],
    "quote": "it's \"q\" <b>&amp; \\ \u0007 \u007f \u00a0 \u2028 é",
}

SNIPPETS = r'''
hello
{{ name }}
{{ missing }}|{{ nil }}|{{ yes }}|{{ no }}|{{ n }}|{{ f }}|{{ big }}|{{ small }}
{{ missing.x }}
{{ missing['x'] }}
{{ missing() }}
{{ nil.x }}|{{ nil['x'] }}|{{ n.x }}
{{ nil.x.y }}
{{ list }}|{{ nested }}|{{ d }}|{{ (1,) }}|{{ () }}|{{ (1, 'a') }}|{{ [] }}|{{ {} }}
{{ quote }}|{{ [quote] }}|{{ ["a'b"] }}|{{ ['a"b'] }}
{{ [1.0, 1e16, 1e15, 123456789.125, 0.1, 1e-5, 0.0001, -0.0, 1e100, 3.14e-10] }}
{{ 'a\nb\tc\\d\'e\x41\u00e9\101\q' }}
{{ "dq 'in' it" }}{{ 'con' 'cat' "enation" }}
{{ 1 + 2 * 3 - 4 }}|{{ (1 + 2) * 3 }}|{{ 7 / 2 }}|{{ 7 // 2 }}|{{ -7 // 2 }}|{{ 7 % 3 }}|{{ -7 % 3 }}|{{ 7 % -3 }}|{{ 2 ** 10 }}|{{ 2 ** 3 ** 2 }}|{{ 2 ** -1 }}|{{ -2 ** 2 }}
{{ 7.5 // 2 }}|{{ -7.5 // 2 }}|{{ 7.5 % 2 }}|{{ -7.5 % 2 }}|{{ 1.5 + 1 }}|{{ 3.0 * 2 }}|{{ 6 / 3 }}
{{ 1 / 0 }}
{{ 1 // 0 }}
{{ 1 % 0 }}
{{ 0 ** -1 }}
{{ 'a' + 'b' }}|{{ 'ab' * 3 }}|{{ 3 * 'ab' }}|{{ [1] + [2] }}|{{ [0] * 3 }}|{{ (1,) + (2,) }}|{{ 'x' * -1 }}|{{ True + 1 }}
{{ 'a' + 1 }}
{{ 'a' - 'b' }}
{{ [1] + (2,) }}
{{ nil + 'a' }}
{{ missing + 'a' }}
{{ 'a' ~ 1 ~ nil ~ missing ~ [1] ~ 2.0 }}
{{ 1 ~ 2 + 3 }}
{{ 'a' ~ 'b' * 2 }}|{{ 'a' + 'b' ~ 1 }}
{{ -n }}|{{ +n }}|{{ --n }}|{{ -f }}|{{ -yes }}
{{ -name }}
{{ 1 < 2 }}|{{ 1 < 2 < 3 }}|{{ 3 > 2 > 2 }}|{{ 1 == 1.0 }}|{{ True == 1 }}|{{ 'a' < 'b' }}|{{ [1, 2] < [1, 3] }}|{{ 'a' == 1 }}|{{ nil == missing }}|{{ missing == missing2 }}|{{ 1 != 2 }}|{{ 2 >= 2 <= 3 }}
{{ 'a' < 1 }}
{{ nil < 1 }}
{{ missing < 1 }}
{{ 1 in list }}|{{ 9 in list }}|{{ 9 not in list }}|{{ 'b' in d }}|{{ 'z' not in d }}|{{ 'ell' in text }}|{{ '' in '' }}|{{ 1 in missing }}|{{ 1.0 in list }}|{{ 'x' in ('x', 'y') }}|{{ 1 in range(3) }}
{{ 1 in 'abc' }}
{{ 1 in nil }}
{{ [1] in d }}
{{ 1 and 0 }}|{{ 0 or 'x' }}|{{ '' or nil or 0 }}|{{ 1 and 2 and 3 }}|{{ not 1 }}|{{ not not '' }}|{{ not missing }}|{{ not 1 == 2 }}|{{ 1 or missing.x }}
{{ 'a' if yes else 'b' }}|{{ 'a' if no else 'b' }}|{{ 'a' if no }}|{{ 'a' if no else 'b' if no else 'c' }}|{{ ('x' if yes) ~ 'y' }}
{{ list[0] }}|{{ list[-1] }}|{{ list[9] }}|{{ d['b'] }}|{{ d.a.c[1] }}|{{ d['zz'] }}|{{ uni[0] }}|{{ uni[1] }}|{{ uni[-1] }}|{{ uni[99] }}|{{ list.0 }}|{{ list[True] }}|{{ list['x'] }}|{{ list[1.0] }}
{{ d.items is callable }}
{{ d['items'] }}|{{ d.get('items') }}|{{ d.zz }}|{{ d['zz'] is defined }}
{{ list[1:] }}|{{ list[:1] }}|{{ list[::-1] }}|{{ list[-2:] }}|{{ list[5:] }}|{{ list[::2] }}|{{ list[2:0:-1] }}|{{ uni[1:4] }}|{{ uni[::-1] }}|{{ uni[-3:] }}|{{ uni[:-2] }}|{{ (1,2,3)[1:] }}|{{ name[10:2] }}|{{ list[nil:2] }}
{{ list[::0] }}
{{ d[1:] }}
{{ nil[1:] }}
{{ missing[1:] }}
{{ n[1:] }}
{% if yes %}A{% endif %}{% if no %}B{% else %}C{% endif %}{% if no %}D{% elif n == 7 %}E{% elif yes %}F{% else %}G{% endif %}
{% if missing %}a{% elif nil %}b{% elif 0 %}c{% elif '' %}d{% elif [] %}e{% elif {} %}f{% elif 0.0 %}g{% else %}h{% endif %}
{% for x in list %}{{ x }},{% endfor %}|{% for x in missing %}{{ x }}{% else %}none{% endfor %}|{% for c in 'héy' %}[{{ c }}]{% endfor %}|{% for k in d %}{{ k }}{% endfor %}
{% for x in list %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('o', 'e') }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}
{% for x in [1,1,2,2,1] %}{% if loop.changed(x) %}{{ x }}{% endif %}{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for (a, b) in [(1, 2)] %}{{ a }}{{ b }}{% endfor %}
{% for a, b in [[1, 2, 3]] %}{{ a }}{% endfor %}
{% for a, b in ['ab'] %}{{ a }}-{{ b }}{% endfor %}
{% for x in list if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }} {% else %}none{% endfor %}{% for x in list if x > 9 %}y{% else %}none{% endfor %}
{% for x in nil %}{% endfor %}
{% for x in 3 %}{% endfor %}
{% for x in list %}{% for y in list %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}
{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% break %}
{% for n in tree recursive %}{{ n.v }}({{ loop.depth }})[{% if n.kids %}{{ loop(n.kids) }}{% endif %}]{% endfor %}
{% for n in tree %}{{ loop(n.kids) }}{% endfor %}
{% set x = 1 %}{% for i in list %}{% set x = x + i %}{{ x }},{% endfor %}{{ x }}
{% set ns = namespace(t=0, u='a') %}{% for i in list %}{% set ns.t = ns.t + i %}{% endfor %}{{ ns.t }}{{ ns.u }}{{ ns.v }}{{ ns }}
{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}{% set ns.c %}blk{{ ns.a }}{% endset %}{{ ns.c }}
{% set d.x = 1 %}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c = 1, 2 %}{{ c }}{% set (e, f) = [5, 6] %}{{ e }}{{ f }}
{% set x %}in {{ name }}{% endset %}[{{ x }}]{% set y | upper | replace('A', 'o') %}ada{% endset %}{{ y }}
{% if yes %}{% set z = 3 %}{% endif %}{{ z }}{% for i in [1] %}{% set w = 1 %}{% endfor %}{{ w }}
{% macro m(a, b=2, c=a) %}{{ a }}-{{ b }}-{{ c }};{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(b=5, a=4) }}{{ m() }}{{ m(1, c=nil) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(z=2) }}
{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, k=4) }}
{% macro f(k) %}{% if k > 0 %}{{ k }}{{ f(k - 1) }}{% endif %}{% endmacro %}{{ f(5) }}
{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ v }}{% endmacro %}{% set v = 'late' %}{{ f() }}
{% macro f() %}{% set v = 2 %}{{ v }}{% endmacro %}{% set v = 1 %}{{ f() }}{{ v }}
{% macro box(t) %}<{{ t }}>{{ caller() }}</{{ t }}>{% endmacro %}{% call box('b') %}in{{ name }}{% endcall %}
{% macro each(xs) %}{% for x in xs %}{{ caller(x, loop.index) }}{% endfor %}{% endmacro %}{% call(x, i) each(list) %}{{ i }}:{{ x }} {% endcall %}
{% macro p() %}x{% endmacro %}{% call p() %}y{% endcall %}
{% macro p() %}{{ caller is defined }}{% if caller %}{{ caller() }}{% endif %}{% endmacro %}{{ p() }}
{{ (m(1) if m is defined else 'no') }}
{% filter upper %}abc {{ name }}{% endfilter %}|{% filter replace('a', 'b') | trim %} aaa {% endfilter %}
{% raw %}{{ not }} {% if %}{% endraw %}|{%- raw -%}  x  {%- endraw -%}  y
a{# comment {{ x }} #}b{#- c -#}  d
{% with a = 1, b = name %}{{ a }}{{ b }}{% set a = 9 %}{% endwith %}{{ a }}
{% set a = 5 %}{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}
{% generation %}{{ name }}{% endgeneration %}{% for i in list %}{% generation %}{{ i }}{{ loop.index }}{% endgeneration %}{% endfor %}
{% block body %}in block {{ name }}{% endblock %}
{% print name %}{% print 1, 2 %}
{{ 'a,b,,c'.split(',') }}|{{ ' a  b '.split() }}|{{ 'a b c'.split(' ', 1) }}|{{ 'a b c'.split(None, 1) }}|{{ 'a b c '.split(maxsplit=1) }}|{{ 'a-b-c'.rsplit('-', 1) }}|{{ ' a b c '.rsplit(None, 1) }}|{{ ''.split() }}|{{ ''.split(',') }}|{{ 'aXXbXX'.split('XX') }}|{{ '</think>ans'.split('</think>')[-1] }}
{{ 'a'.split('') }}
{{ text.strip() }}|{{ text.lstrip() }}|{{ text.rstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'xyaxy'.lstrip('yx') }}|{{ '\n\n a \t\n'.strip('\n') }}|{{ 'ééaé'.rstrip('é') }}
{{ name.startswith('A') }}|{{ name.endswith(('x', 'da')) }}|{{ name.startswith('') }}|{{ name.startswith('d', 1) }}|{{ name.endswith('d', 0, 2) }}
{{ name.startswith(1) }}
{{ 'a b-c'.title() }}|{{ "it's HERE".title() }}|{{ 'hELLO wORLD'.capitalize() }}|{{ 'Straße'.upper() }}|{{ 'ÉCOLE Ω'.lower() }}|{{ 'aB'.swapcase() }}|{{ uni.upper() }}
{{ 'aaa'.replace('a', 'b') }}|{{ 'aaa'.replace('a', 'b', 2) }}|{{ 'abc'.replace('', '-') }}|{{ 'abc'.replace('', '-', 2) }}|{{ 'abc'.replace('x', 'y') }}
{{ ','.join(['a', 'b']) }}|{{ ', '.join(words) }}|{{ ''.join([]) }}|{{ '-'.join('abc') }}
{{ ','.join([1]) }}
{{ uni.find('本') }}|{{ name.find('z') }}|{{ name.find('') }}|{{ 'abab'.rfind('ab') }}|{{ 'abab'.index('b') }}|{{ 'abab'.find('a', 1) }}|{{ 'aaaa'.count('aa') }}|{{ 'abc'.count('') }}
{{ 'abc'.index('z') }}
{{ 'prefix-x'.removeprefix('prefix-') }}|{{ 'x.txt'.removesuffix('.txt') }}|{{ 'x'.removeprefix('y') }}|{{ multi.splitlines() }}|{{ multi.splitlines(True) }}|{{ 'a\n'.splitlines() }}
{{ 'k=v=w'.partition('=') }}|{{ 'k=v=w'.rpartition('=') }}|{{ 'k'.partition('=') }}
{{ 'a1'.isalnum() }}|{{ '12'.isdigit() }}|{{ 'ab'.isalpha() }}|{{ ' \n'.isspace() }}|{{ 'AB1'.isupper() }}|{{ 'ab1'.islower() }}|{{ ''.isspace() }}|{{ 'é'.isascii() }}
{{ 'ab'.center(7, '*') }}|{{ 'abc'.center(6) }}|{{ 'ab'.ljust(5, '.') }}|{{ 'ab'.rjust(5) }}|{{ '-42'.zfill(6) }}|{{ '7'.zfill(3) }}
{{ '{} and {}'.format('a', 1) }}|{{ '{0}{1}{0}'.format('x', 'y') }}|{{ '{a}-{b}'.format(a=1, b=nil) }}|{{ '{{}}{:>5}|{:<5}|{:^5}|{:05d}|{:.2f}|{:,}'.format('a', 'b', 'c', 42, 3.14159, 1234567) }}
{{ '{} {}'.format(1) }}
{{ '%s is %d' % ('x', 3) }}|{{ '%05.1f|%-5s|%5s|%x|%%' % (3.14159, 'ab', 'cd', 255) }}|{{ '%r' % ('q',) }}|{{ '%(a)s' % {'a': 5} }}|{{ 'plain %s' % name }}
{{ '%s' % (1, 2) }}
{{ '%d' % 'x' }}
{{ '%s %s' | format('a', 2) }}|{{ '%(x)s' | format(x=1) }}
{{ d.keys() | list }}|{{ d.values() | list }}|{{ d.items() | list }}|{{ d.get('zz') }}|{{ d.get('zz', 5) }}|{{ d.get('b') }}|{{ d.keys() }}|{{ d.values() | length }}
{{ list.append(4) }}
{{ d.update({'x': 1}) }}
{{ list.append is defined }}|{{ d.pop is defined }}|{{ list.sort }}|{{ list.count(1) }}|{{ list.index(2) }}
{{ list.index(99) }}
{{ name.nope() }}
{{ text | trim }}|{{ 'xxaxx' | trim('x') }}|{{ 5 | trim }}|{{ missing | trim }}|{{ nil | trim }}
{{ name | upper }}|{{ name | lower }}|{{ 'hello wORLD foo-bar (baz' | title }}|{{ 'hELLO' | capitalize }}|{{ nil | upper }}|{{ 12 | lower }}
{{ 'aXa' | replace('a', 'b') }}|{{ 'aaa' | replace('a', 'b', 1) }}|{{ 123 | replace('2', 'x') }}
{{ list | join }}|{{ list | join(', ') }}|{{ users | join('+', attribute='name') }}|{{ [nil, yes] | join('/') }}|{{ missing | join(',') }}|{{ 'abc' | join('.') }}
{{ list | length }}|{{ uni | length }}|{{ d | count }}|{{ missing | length }}|{{ '' | length }}
{{ n | length }}
{{ nil | length }}
{{ list | first }}|{{ list | last }}|{{ [] | first }}|{{ 'xyz' | first }}|{{ 'xyz' | last }}|{{ d | first }}|{{ missing | first }}
{{ 'abc' | list }}|{{ d | list }}|{{ (1, 2) | list }}|{{ missing | list }}
{{ d | tojson }}|{{ nested | tojson }}|{{ quote | tojson }}|{{ uni | tojson }}|{{ [1.0, 1e30, nil, true] | tojson }}|{{ {1: 2, true: 3, nil: 4} | tojson }}|{{ (1, 2) | tojson }}
{{ d | tojson(indent=2) }}|{{ [] | tojson(indent=2) }}|{{ {'a': {}} | tojson(indent=4) }}|{{ [1, [2]] | tojson(indent=0) }}|{{ [1, 2] | tojson(separators=(',', ':')) }}|{{ d | tojson(sort_keys=true) }}|{{ uni | tojson(ensure_ascii=true) }}|{{ ['<b>&\'"'] | tojson }}
{{ missing | tojson }}
{{ range(2) | tojson }}
{{ d.items() | tojson }}
{{ missing | default('x') }}|{{ nil | default('x') }}|{{ nil | default('x', true) }}|{{ '' | d('y', boolean=true) }}|{{ d.zz | default }}|{{ 0 | default(5) }}
{{ d | items | list }}|{{ missing | items | list }}
{{ list | items | list }}
{{ users | map(attribute='name') | list }}|{{ users[:2] | map(attribute='tags.0') | list }}|{{ users | map(attribute='zip', default=0) | list }}|{{ words | map('upper') | join(' ') }}|{{ words | map('replace', 'p', 'q') | list }}|{{ [[1, 2], [3]] | map('first') | list }}|{{ [[1, 2]] | map(attribute=1) | list }}
{{ users | selectattr('age', 'equalto', 30) | map(attribute='name') | list }}|{{ users | selectattr('tags') | list | length }}|{{ users | rejectattr('age', 'gt', 26) | map(attribute='name') | join }}|{{ list | select('odd') | list }}|{{ list | reject('odd') | list }}|{{ [0, 1, '', nil] | select | list }}|{{ users | selectattr('tags', 'defined') | list | length }}|{{ [1, nil, 2] | reject('none') | list }}|{{ [1, 2, 3] | select('in', [1, 3]) | list }}|{{ users | selectattr('name', 'in', ['Bo']) | list | length }}
{{ users | selectattr('age', 'nosuch') | list }}
{{ list | sort }}|{{ words | sort }}|{{ words | sort(case_sensitive=true) }}|{{ list | sort(reverse=true) }}|{{ users | sort(attribute='age') | map(attribute='name') | list }}|{{ users | sort(attribute='age,name') | map(attribute='name') | list }}|{{ 'cab' | sort }}
{{ [1, 'a'] | sort }}
{{ words | unique | list }}|{{ words | unique(case_sensitive=true) | list }}|{{ [1, 1.0, true, 2] | unique | list }}
{{ list | reverse | list }}|{{ uni | reverse }}|{{ list | reverse | first }}
{{ 5 | string ~ 'x' }}|{{ nil | string }}|{{ '3' | int + 1 }}|{{ '3.9' | int }}|{{ 'x' | int }}|{{ 'x' | int(9) }}|{{ 3.9 | int }}|{{ -3.9 | int }}|{{ 'ff' | int(base=16) }}|{{ '0x1F' | int(0, 16) }}|{{ nil | int }}|{{ ' 42 ' | int }}|{{ '1_000' | int }}|{{ true | int }}
{{ missing | int }}
{{ '3' | float }}|{{ 'x' | float }}|{{ 'x' | float(1.5) }}|{{ 3 | float }}|{{ '1e3' | float }}|{{ ' 2.50 ' | float }}|{{ '-.5' | float }}
{{ neg | abs }}|{{ -2.5 | abs }}|{{ 2.5 | round }}|{{ 3.5 | round }}|{{ 2.675 | round(2) }}|{{ 42.55 | round(1, 'floor') }}|{{ 42.1 | round(method='ceil') }}|{{ 7 | round }}|{{ 1234 | round(-2) }}|{{ 1250.0 | round(-2) }}
{{ multi | indent }}|{{ 'a\nb' | indent(2) }}|{{ 'a\n\nb' | indent(2, true) }}|{{ 'a\n\nb' | indent(2, blank=true) }}|{{ 'a\nb\n' | indent('> ') }}|{{ '' | indent(first=true) }}
{{ 5 | indent }}
{{ '<a href="x">&\'' | escape }}|{{ '<b>' | e }}|{{ '<b>' | safe }}
{{ d | dictsort }}|{{ d | dictsort(true) }}|{{ {'x': 2, 'y': 1} | dictsort(by='value') }}|{{ {'x': 2, 'y': 1} | dictsort(reverse=true) }}
{{ list | min }}|{{ list | max }}|{{ words | min }}|{{ words | max(case_sensitive=true) }}|{{ [] | max }}|{{ users | max(attribute='age') }}|{{ list | sum }}|{{ users | sum(attribute='age') }}|{{ list | sum(start=10) }}|{{ [1.5, 1] | sum }}
{{ [1, 2, 3, 4, 5] | batch(2) | list }}|{{ [1, 2, 3] | batch(2, 'x') | list }}|{{ 'a b  c_d, é' | wordcount }}|{{ 'ab' | center(6) }}|{{ 'hello big world' | truncate(9) }}|{{ 'hello big world' | truncate(9, true, '~', 0) }}|{{ 'short' | truncate(9) }}
{% for k, xs in users | groupby('age') %}{{ k }}:{{ xs | map(attribute='name') | join(',') }};{% endfor %}
{{ name | attr('upper') is callable }}|{{ d | attr('b') }}
{{ name | nosuch }}
{{ name is nosuch }}
{{ name is defined }}|{{ missing is defined }}|{{ missing is undefined }}|{{ nil is none }}|{{ nil is not none }}|{{ name is string }}|{{ d is mapping }}|{{ list is mapping }}|{{ list is sequence }}|{{ name is sequence }}|{{ d is sequence }}|{{ n is sequence }}|{{ list is iterable }}|{{ name is iterable }}|{{ n is iterable }}|{{ missing is sequence }}|{{ missing is iterable }}|{{ missing is callable }}|{{ range is callable }}|{{ name.upper is callable }}
{{ n is number }}|{{ f is number }}|{{ yes is number }}|{{ n is integer }}|{{ yes is integer }}|{{ f is float }}|{{ n is float }}|{{ yes is boolean }}|{{ n is boolean }}|{{ yes is true }}|{{ 1 is true }}|{{ no is false }}|{{ n is odd }}|{{ n is even }}|{{ 9 is divisibleby 3 }}|{{ 9 is divisibleby(2) }}|{{ nil is sameas none }}|{{ 1 is sameas 2 }}
{{ n is eq 7 }}|{{ n is equalto(7) }}|{{ n is ne 7 }}|{{ n is gt 3 }}|{{ n is lt 3 }}|{{ n is ge 7 }}|{{ n is le 6 }}|{{ n is in [7] }}|{{ n is not in [7] }}|{{ 'abc' is lower }}|{{ 'ABC' is upper }}|{{ 'upper' is filter }}|{{ 'odd' is test }}|{{ 'nope' is filter }}|{{ name is not string }}|{{ not name is string }}
{{ nil is odd }}
{{ 'a' if name is string else 'b' }}|{{ name is string and n is number }}|{{ 1 if n is defined and n > 3 else 2 }}|{{ name is defined or missing.x }}
{{ (users | selectattr('age', 'equalto', 99)) is defined }}|{% if users | selectattr('age', 'equalto', 99) %}truthy{% endif %}|{% set g = list | select %}{{ g | list }}{{ g | list }}
{{ (list | map('string')) | length }}
{{ range(5) | list }}|{{ range(2, 8, 3) | list }}|{{ range(5, 0, -2) | list }}|{{ range(0) | list }}|{{ range(3) }}|{{ range(1, 4)[1] }}|{{ range(10)[-1] }}
{{ range(1000000) | length }}
{{ range(1, 2, 0) }}
{{ dict(a=1, b=2) }}|{{ dict({'x': 1}, y=2) }}|{{ dict([('a', 1)]) }}
{{ raise_exception('stop ' ~ 'here') }}
{{ strftime_now('%Y-%m-%d %H:%M:%S') }}|{{ strftime_now('%d %b %Y') }}|{{ strftime_now('%A %B %j %p %y') }}
{{ [1, 2,] }}|{{ {'a': 1,} }}|{{ (1, 2,) }}|{{ {'a': {'b': {}}} }}|{{ {'x': 1}['x'] }}|{{ {'a': 1, 'a': 2} }}
{{ 0x1F }}|{{ 0b101 }}|{{ 0o17 }}|{{ 1_000 }}|{{ 1.5e3 }}|{{ 1e-3 }}|{{ 00 }}
{{ true }}{{ True }}{{ none }}{{ None }}{{ false }}
{{ m(*[1, 2]) }}
{% macro m(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ m(*[1, 2]) }}{{ m(**{'a': 3, 'b': 4}) }}{{ m(5, **{'b': 6}) }}
{{ d.a['c'][0] }}{{ users[0].name.upper()[0:1] }}{{ users[-1]['tags'] is defined }}{{ users[0].tags[0] | upper }}
{{ 'a' 'b' | upper }}|{{ 1 | string | length }}|{{ -5 | abs }}|{{ 'x' ~ 1 | string }}|{{ 2 + 3 | string | length }}
{{ name|upper|lower|length }}{{name}}{{- name -}}   {{ name }}
{{ 1 if }}
{{ 1 + }}
{{ a b }}
{{ [1, 2 }}
{{ 'abc }}
{{ 1 is is 2 }}
{% if %}{% endif %}
{% if yes %}
{% for x in list %}{% endif %}
{% endif %}
{% nosuch %}
{% set %}
{% set 1 = 2 %}
{% set true = 2 %}
{{ 'x' | upper() }}{{ 'x' | upper(1) }}
{{ 5 ** 0.5 }}|{{ 10 ** -2 }}|{{ 7 // 2.0 }}
{{ ('a', 'b') < ('a', 'c') }}|{{ [1] == (1,) }}|{{ {'a': [1]} == {'a': [1.0]} }}|{{ 'a' != 'b' != 'a' }}
{{ loop }}
{{ users | map(attribute='tags.0') | list }}
{{ ' a b  c '.split(None, 1) }}|{{ ' a b  c '.split(None, 0) }}|{{ ' a  b c '.rsplit(None, 1) }}|{{ '  '.split(None, 1) }}
{{ 1, 2 }}|{{ name, }}
{% set x = [] %}{% for i in x %}{% else %}{{ loop is defined }}{% endfor %}
{% for i in list %}{% set d2 = dict(i=i) %}{{ d2.i }}{% if loop.last %}{{ d2 }}{% endif %}{% endfor %}{{ d2 is defined }}
{{ '' if not users else users[0].name }}|{{ users | length > 2 and 'many' }}|{{ -1 if no else +1 }}
{% for u in users if 'tags' in u and u.tags %}{{ u.name }}{% endfor %}|{% for u in users | selectattr('tags', 'defined') if u.tags == [] %}{{ u.name }}{% endfor %}
{% set a = b = 1 %}
{{ name == 'Ada' == true }}|{{ (name == 'Ada') == true }}
{{ d | list | sort | join }}|{{ d | length ~ '!' }}|{{ (d | length) + 1 }}
{% macro outer() %}{% macro inner(x) %}[{{ x }}]{% endmacro %}{{ inner(1) }}{{ inner(2) }}{% endmacro %}{{ outer() }}{{ inner is defined }}
{% macro m() %}{{ loop is defined }}{% endmacro %}{% for i in [1] %}{{ m() }}{% endfor %}
{% for i in [1, 2] %}{% macro k() %}{{ i }}{% endmacro %}{{ k() }}{% endfor %}
{% for i in list %}{{ loop.index if not loop.last else 'end' }}{{ ',' if not loop.last }}{% endfor %}
{{ '%s' % d['b'] }}|{{ '%.3s|%5.1s|' % ('abcdef', 'xy') }}|{{ '%+d % d' % (1, 2) }}|{{ '%e' % 12345.678 }}|{{ '%g' % 0.00001 }}
{{ '{:x} {:#x} {:b} {:e} {:%}'.format(255, 255, 5, 1234.5, 0.25) }}|{{ '{!r} {!s}'.format('a', 'b') }}|{{ '{:*^9}'.format('mid') }}|{{ '{:+.1f}'.format(2.25) }}
{{ uni | capitalize }}|{{ uni | title }}|{{ uni.title() }}|{{ uni | upper | lower }}|{{ uni | tojson | length }}
{{ [1, [2, [3]]] | string | length }}|{{ {'é': '\u00e9\n'} }}|{{ '\x07\u200b\ue000😀' | list }}
{{ name.__class__ }}|{{ list.__len__ }}
{{ 'ab'[5] is defined }}|{{ ''[0] }}
{{ text | trim | length }}|{{ '\u3000x\u00a0' | trim }}|{{ '\u3000x\u00a0'.strip() | length }}
{{ 9223372036854775807 }}|{{ -9223372036854775807 - 1 }}|{{ 9223372036854775806 + 1 }}
'''.strip("\n").split("\n")

# White space control needs templates of several lines.
SNIPPETS += [
    "a\n{% if yes %}\nb\n{% endif %}\nc\n",
    "a\n  {% if yes %}\n  b\n  {% endif %}\nc",
    "a\n  {%+ if yes %}\n  b\n  {%+ endif %}\nc",
    "a\n  {% if yes +%}\n  b\n  {% endif +%}\nc",
    "a\n  {%- if yes -%}\n  b\n  {%- endif -%}\n  c",
    "a\n\n  {{- name -}}  \n\n b",
    "  {{ name }}\n  {{ name }}\n\n",
    "\n\n{% if yes %}x{% endif %}\n\n",
    "  {# c #}\n  x {# d #} \n{#- e -#}\n  y\n",
    "  {# c #}  {% if yes %}\nx{% endif %}",
    "x {% if yes %} y {% endif %} z",
    "{% for i in list %}\n  {{ i }}\n{% endfor %}\nend",
    "{% for i in list -%}\n  {{ i }}\n{%- endfor %}\nend",
    "  {% raw %}\n  {{ x }}\n  {% endraw %}\n  tail",
    "  {%- raw %}\n  {{ x }}\n  {%- endraw -%}\n  tail",
    "a\r\nb\rc\r\n{% if yes %}\r\nd{% endif %}\r\n",
    "\t{% if yes %}\n\t\tx\n\t{% endif %}\n\ty",
    "{% set x %}\n  body\n{% endset %}\n[{{ x }}]",
    "{% macro m() %}\n  line\n{% endmacro %}\n{{ m() }}|{{ m() | trim }}",
    "\u00a0{% if yes %}x{% endif %}\u3000{%- if yes %}y{% endif %}",
    "{{ 'a' }}\n{{ 'b' }}\n{# x #}\n{{ 'c' }}",
    "{%if yes%}a{%endif%}{%-  if no  -%}{%else%} b{%-endif-%} ",
    "{{\n  name\n}}\n{{ {\n'a': 1}\n['a'] }}",
    "a {%- if yes %} b {%+ endif -%} c {# x -#} d {#- y #} e",
    "{{ '{{ x }}' }}{{ '{% y %}' }}{{ \"#}\" }}{# '#} #}",
    "{#}#}{#-#}x{##}",
    "}} %} #} { {a } % # {",
    "{% for m in [1] %}\n    {%- if m %}\n        {{- 'x' }}\n    {%- else %}\n        {{- 'y' }}\n    {%- endif %}\n{%- endfor %}\n",
]
