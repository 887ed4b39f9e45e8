// Keeps the page as the server has it: asks for it again when told that something changed, and puts in the parts that are others. Without it every page works as it was loaded.
(function () {
  'use strict';

  var shown = {}, loading = false, again = false;
  function parts(root) { return root.querySelectorAll('[data-part]'); }
  parts(document).forEach(function (part) { shown[part.id] = part.outerHTML; });
  slides(document);

  function mark(on, text) {
    var status = document.querySelector('.live');
    if (!status) return;
    status.className = 'live ' + (on ? 'on' : 'off');
    status.textContent = text;
  }

  // Where an element stands in a part, to find the one that takes its place.
  function wayTo(element, part) {
    var way = [];
    for (var at = element; at !== part; at = at.parentElement) way.unshift(Array.prototype.indexOf.call(at.parentElement.children, at));
    return way;
  }

  function follow(part, way, like) {
    var link = like.getAttribute('href') && part.querySelector('a[href="' + CSS.escape(like.getAttribute('href')) + '"]');
    if (link) return link;
    var at = part;
    way.forEach(function (index) { at = at && at.children[index]; });
    return at && at.tagName === like.tagName ? at : null;
  }

  function put(here, part) {
    var active = here.contains(document.activeElement) ? document.activeElement : null, way = active && wayTo(active, here);
    var open = Array.prototype.map.call(here.querySelectorAll('details'), function (d) { return d.open; });
    var scrolled = Array.prototype.map.call(here.querySelectorAll('.scroll, pre'), function (s) { return [s.scrollLeft, s.scrollTop]; });
    var sliders = Array.prototype.map.call(here.querySelectorAll('.slide input'), function (i) { return { value: i.value, last: i.value === i.max, mode: i.closest('.slide').previousElementSibling.className, steps: !!i.closest('.step') }; });
    here.replaceWith(document.adoptNode(part));
    slides(part);
    // Who looks at the newest picture goes on doing so; another one stays the one that it was.
    part.querySelectorAll('.slide input').forEach(function (input, i) {
      var was = sliders[i];
      if (!was) return;
      if (was.steps ? !was.last : /over/.test(was.mode)) {
        input.value = was.value;
        input.dispatchEvent(new Event('input'));
      }
      if (was.steps && !/one/.test(was.mode)) input.closest('.slide').querySelector('button').click();
    });
    part.querySelectorAll('details').forEach(function (d, i) { if (i < open.length) d.open = open[i]; });
    part.querySelectorAll('.scroll, pre').forEach(function (s, i) { if (i < scrolled.length) { s.scrollLeft = scrolled[i][0]; s.scrollTop = scrolled[i][1]; } });
    var again = active && follow(part, way, active);
    // Where the keyboard is must not move the page under the eye.
    if (again) again.focus({ preventScroll: true });
  }

  function refresh() {
    if (loading) { again = true; return; }
    loading = true;
    fetch(location.href, { headers: { Accept: 'text/html' } }).then(function (answer) {
      if (!answer.ok) throw new Error(answer.status);
      return answer.text();
    }).then(function (text) {
      var news = new DOMParser().parseFromString(text, 'text/html');
      parts(news).forEach(function (part) {
        var here = document.getElementById(part.id);
        // What somebody is writing in stays.
        if (!here || shown[part.id] === part.outerHTML || (here.contains(document.activeElement) && /INPUT|SELECT/.test(document.activeElement.tagName) && document.activeElement.type !== 'range')) return;
        shown[part.id] = part.outerHTML;
        put(here, part);
      });
    }).catch(function () {
      mark(false, 'the silo does not answer');
    }).finally(function () {
      loading = false;
      if (again) { again = false; refresh(); }
    });
  }

  var address = document.body.dataset.live;
  if (!address || !window.EventSource) return;
  // After the end the silo closes, and the browser asks again now and then by itself.
  var source = new EventSource(address), lost = false, over = false, told = false;
  source.onopen = function () {
    if (!over) mark(true, 'live');
    if (lost) refresh();
    lost = false;
  };
  source.addEventListener('changed', function () { over = false; told = true; mark(true, 'live'); refresh(); });
  source.addEventListener('ended', function () {
    if (told) refresh();
    over = true; told = false;
    mark(false, 'ended');
  });
  source.onerror = function () {
    if (over) return;
    lost = true;
    mark(false, 'connecting again');
  };
})();
